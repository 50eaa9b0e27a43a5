//! What is done to the logs of a broker between two crashes.

use ottla_fake::Dice;

/// So few that most records are replaced by later ones.
pub(super) const KEYS: u8 = 6;

/// One thing that is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Appends a batch of `count` records of `size` bytes with keys from `key` on, by an idempotent
    /// producer if one is named. Makes the partition if there is none.
    Append {
        partition: usize,
        producer: Option<i64>,
        key: u8,
        count: usize,
        size: usize,
        late_ms: i64,
    },
    /// Appends batches of one record as they stand in a leader's log, `gap` offsets apart.
    AppendAsFollower { partition: usize, batches: usize, gap: i64, size: usize },
    /// Makes durable what waits for the disk, as the flushers do.
    Commit,
    /// Makes one log durable.
    Flush { partition: usize },
    /// Makes all logs durable and says so in the checkpoints.
    Checkpoint,
    /// Says in the checkpoints what is durable already.
    CheckpointFlushed,
    /// Writes the checkpoints as things stand.
    WriteCheckpoints,
    /// Deletes what is above `retention.bytes` or below the log start offset.
    Retain,
    /// Raises the log start offset by so many percent of what is there.
    DeleteRecords { partition: usize, percent: i64 },
    /// Cuts the log after so many percent of what is there, below its start if they are negative.
    Truncate { partition: usize, percent: i64 },
    /// Removes all, and goes on so many offsets behind the end.
    StartAnew { partition: usize, ahead: i64 },
    /// Compacts one log, if one is dirty.
    Compact,
    /// Begins to move the log to the other directory unless that was begun, and copies a little, so
    /// many times.
    Move { partition: usize, steps: usize },
    /// Leads in a new epoch.
    BeginEpoch { partition: usize },
    /// Deletes the partition.
    Delete { partition: usize },
    /// Stops in good order, and starts again.
    Restart,
    /// Lets the disk fail during the next operation.
    Fault(Fault),
}

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It refuses everything after so many changes.
    Refuse { changes: u64 },
    /// It is full after so many bytes.
    Full { bytes: u64 },
    /// The next sync loses what it was to write.
    LoseSync,
}

impl Operation {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let partition = dice.roll(2) as usize;
        match dice.roll(100) {
            0..40 => Self::Append {
                partition,
                producer: Some(dice.roll(4) as i64).filter(|id| *id > 0),
                key: dice.roll(KEYS.into()) as u8,
                count: 1 + dice.roll(3) as usize,
                size: size(dice),
                late_ms: dice.roll(50) as i64,
            },
            40..46 => Self::AppendAsFollower {
                partition,
                batches: 1 + dice.roll(3) as usize,
                gap: dice.roll(3) as i64,
                size: size(dice),
            },
            46..53 => Self::Commit,
            53..56 => Self::Flush { partition },
            56..59 => Self::Checkpoint,
            59..62 => Self::CheckpointFlushed,
            62..65 => Self::WriteCheckpoints,
            65..69 => Self::Retain,
            69..72 => Self::DeleteRecords { partition, percent: dice.roll(101) as i64 },
            72..76 => Self::BeginEpoch { partition },
            76..78 => Self::Delete { partition },
            78..81 => Self::Restart,
            81..84 => Self::Truncate { partition, percent: dice.roll(120) as i64 - 20 },
            84..85 => Self::StartAnew { partition, ahead: dice.roll(5) as i64 },
            85..89 => Self::Compact,
            89..93 => Self::Move { partition, steps: 1 + dice.roll(6) as usize },
            93..96 => Self::Fault(Fault::Refuse { changes: dice.roll(12) }),
            96..98 => Self::Fault(Fault::Full { bytes: dice.roll(1500) }),
            _ => Self::Fault(Fault::LoseSync),
        }
    }
}

impl Operation {
    pub(super) fn writes_checkpoints(self) -> bool {
        matches!(self, Self::Checkpoint | Self::CheckpointFlushed | Self::WriteCheckpoints)
    }
}

/// Bytes of a record: mostly few, now and then more than a sector has.
fn size(dice: &mut Dice) -> usize {
    let most = [40, 500, 900][dice.roll(3) as usize];
    dice.roll(most) as usize
}
