use std::io::IoSlice;

use super::*;
use ottla_runtime::disk::{read_file, replace_file};

fn write(disk: &FakeDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::Create).unwrap();
    file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
    file
}

#[test]
fn a_power_cut_spares_what_was_synced_and_only_that_for_sure() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = FakeDisk::with_dir("/d");
        write(&disk, "/d/synced", b"kept").sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&disk, "/d/unsynced", b"gone");
        let after = disk.after(Crash::Power { seed });
        assert_eq!(read_file(&*after, Path::new("/d/synced")).unwrap(), b"kept", "seed {seed}");
        let unsynced = read_file(&*after, Path::new("/d/unsynced"));
        lost += usize::from(unsynced.map_or(true, |bytes| bytes != b"gone"));
        let alive = disk.after(Crash::Process);
        assert_eq!(read_file(&*alive, Path::new("/d/unsynced")).unwrap(), b"gone");
    }
    assert!((1..50).contains(&lost), "lost in {lost} of 50");
}

#[test]
fn exchanged_files_have_each_others_name_or_their_own() {
    for seed in 0..20 {
        let disk = FakeDisk::with_dir("/d");
        let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
        replace_file(&*disk, a, b"of a").unwrap();
        replace_file(&*disk, b, b"of b").unwrap();
        disk.exchange(a, b).unwrap();
        assert_eq!(read_file(&*disk, a).unwrap(), b"of b");
        let cut = disk.after(Crash::Power { seed });
        let found = (read_file(&*cut, a).unwrap(), read_file(&*cut, b).unwrap());
        let both = [(b"of a".to_vec(), b"of b".to_vec()), (b"of b".to_vec(), b"of a".to_vec())];
        assert!(both.contains(&found), "seed {seed}: {found:?}");
    }
}

#[test]
fn replacing_a_file_leaves_the_old_or_the_new() {
    let path = Path::new("/d/f");
    for changes in 0..8 {
        for seed in 0..20 {
            let disk = FakeDisk::with_dir("/d");
            replace_file(&*disk, path, b"old").unwrap();
            disk.fail_after(changes);
            let replaced = replace_file(&*disk, path, b"new").is_ok();
            let content = read_file(&*disk.after(Crash::Power { seed }), path).unwrap();
            assert!(content == b"new" || (!replaced && content == b"old"), "seed {seed}");
        }
    }
}

#[test]
fn a_renamed_directory_is_found_whole_under_one_of_its_names() {
    let (old, new) = (Path::new("/d/old"), Path::new("/d/new"));
    let mut moved = 0;
    for seed in 0..50 {
        let disk = FakeDisk::with_dir(old);
        write(&disk, "/d/old/f", b"bytes").sync_data().unwrap();
        disk.sync_dir(old).unwrap();
        disk.rename(old, new).unwrap();
        let after = disk.after(Crash::Power { seed });
        assert_ne!(after.exists(old), after.exists(new), "seed {seed}");
        let dir = if after.exists(new) { new } else { old };
        assert_eq!(read_file(&*after, &dir.join("f")).unwrap(), b"bytes", "seed {seed}");
        moved += usize::from(dir == new);
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!(disk.after(Crash::Power { seed }).exists(&new.join("f")), "seed {seed}");
    }
    assert!((1..50).contains(&moved), "moved in {moved} of 50");
}

#[test]
fn a_full_disk_takes_what_fits_and_removing_makes_room() {
    let disk = FakeDisk::with_dir("/d");
    disk.set_capacity(10);
    write(&disk, "/d/a", b"1234567");
    assert_eq!(disk.space(Path::new("/d")).unwrap().usable_bytes, 3);
    let file = disk.open(Path::new("/d/b"), OpenMode::Create).unwrap();
    let parts = [IoSlice::new(b"12"), IoSlice::new(b"345")];
    assert_eq!(file.write_at(&parts, 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(read_file(&*disk, Path::new("/d/b")).unwrap(), b"123");
    disk.remove_file(Path::new("/d/a")).unwrap();
    file.write_at(&parts, 0).unwrap();
    assert_eq!(disk.space(Path::new("/d")).unwrap().usable_bytes, 5);
}

#[test]
fn what_a_crash_of_the_process_leaves_is_not_durable_by_that() {
    let disk = FakeDisk::with_dir("/d");
    write(&disk, "/d/f", b"bytes");
    let lost = |seed| {
        let after = disk.after(Crash::Process).after(Crash::Power { seed });
        read_file(&*after, Path::new("/d/f")).map_or(true, |bytes| bytes != b"bytes")
    };
    let lost = (0..50).filter(|&seed| lost(seed)).count();
    assert!((1..50).contains(&lost), "lost in {lost} of 50");
}

#[test]
fn a_recording_has_the_disk_before_each_change_and_within_each_write() {
    let disk = FakeDisk::with_dir("/d");
    disk.record();
    write(&disk, "/d/f", b"1234").sync_data().unwrap();
    disk.remove_file(Path::new("/d/f")).unwrap();
    assert_eq!(disk.recorded(), 5);
    let content = |disk: Arc<FakeDisk>| read_file(&*disk, Path::new("/d/f")).ok();
    let found: Vec<_> = disk.take_recording().into_iter().map(content).collect();
    let expected: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"12"), Some(b"1234"), Some(b"1234")];
    assert_eq!(found, expected.map(|bytes| bytes.map(<[u8]>::to_vec)));
}

#[test]
fn a_lock_is_free_again_when_it_is_dropped() {
    let disk = FakeDisk::with_dir("/d");
    let held = disk.lock(Path::new("/d/.lock")).ok();
    assert!(disk.lock(Path::new("/d/.lock")).is_err());
    drop(held);
    assert!(disk.lock(Path::new("/d/.lock")).is_ok());
}
