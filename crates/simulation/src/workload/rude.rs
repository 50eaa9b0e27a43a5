//! Someone who hangs up in the middle of a frame.

use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::net::write_all;
use ottla_runtime::time;

use crate::stage::Stage;

/// The frames that are begun are as long.
const FRAME_BYTES: u64 = 40_000;

pub(crate) async fn run(stage: Arc<Stage>) {
    let mut dice = stage.dice();
    while !stage.is_calm() {
        time::sleep(Duration::from_millis(dice.roll(1_000))).await;
        let Some(stream) = stage.dial().await else { continue };
        let bytes = 1 + dice.roll(FRAME_BYTES);
        let mut frame = (bytes as u32).to_be_bytes().to_vec();
        // Produce, which waits for its turn as soon as its length is known.
        frame.extend_from_slice(&[0, 0, 0, 9]);
        frame.resize(4 + dice.roll(bytes) as usize, 0);
        if time::timeout(Duration::from_secs(1), write_all(&*stream, &frame)).await.is_ok() {
            time::sleep(Duration::from_millis(dice.roll(300))).await;
        }
    }
}
