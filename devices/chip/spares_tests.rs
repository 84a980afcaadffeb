//! What the remapping keeps, gives and forgets.

use super::*;

fn memory(spares: u32) -> (Arc<RamMedium>, Spares) {
    let inner = Arc::new(RamMedium::new(64 * 1024));
    let over = Spares::open(Arc::clone(&inner) as Arc<dyn Medium>, 512, spares, None, false);
    (inner, over.unwrap())
}

fn read(medium: &dyn Medium, sector: u64) -> u8 {
    let mut into = [0xaa; 512];
    medium.read_at(sector * 512, &mut into).unwrap();
    assert!(into.iter().all(|byte| *byte == into[0]));
    into[0]
}

#[test]
fn a_bad_sector_that_is_written_goes_to_a_spare_and_its_place_is_untouched() {
    let (inner, disk) = memory(4);
    disk.write_at(0, &[1; 200 * 64]).unwrap();
    disk.mark_bad(10 * 512);
    disk.write_at(8 * 512, &[2; 5 * 512]).unwrap();
    assert_eq!((read(&disk, 10), read(&*inner, 10), read(&*inner, 11)), (2, 1, 2));
    assert_eq!((disk.remaps(), disk.remap(0), disk.remap(1)), (1, Some((10, 0)), None));
}

#[test]
fn a_bad_sector_that_is_read_is_recovered_once() {
    let (inner, disk) = memory(4);
    disk.write_at(10 * 512, &[7; 512]).unwrap();
    disk.mark_bad(10 * 512 + 100);
    assert_eq!(read(&disk, 10), 7);
    inner.write_at(10 * 512, &[0; 512]).unwrap(); // the old place decays
    assert_eq!(read(&disk, 10), 7);
    let mut runs = [[0; 512], [0; 512]];
    let [one, two] = &mut runs;
    disk.read_runs(9 * 512, &mut [one, two]).unwrap();
    assert_eq!((runs[0][0], runs[1][0]), (0, 7));
}

#[test]
fn what_the_host_does_not_let_be_saved_is_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("later");
    let inner = Arc::new(RamMedium::new(1 << 20));
    inner.write_at(512 * 9, &[9; 512]).unwrap();
    let path = Some(nowhere.join("x.img.spares"));
    let spares = Spares::open(Arc::clone(&inner) as _, 512, 4, path, false).unwrap();
    spares.mark_bad(512 * 9);
    assert_eq!((read(&spares, 9), spares.remaps()), (9, 0));
    assert_eq!((read(&spares, 9), spares.is_lost(512 * 9)), (9, true));
    assert!(spares.write_at(512 * 9, &[1; 512]).is_err(), "what is written must be kept");
    std::fs::create_dir(nowhere).unwrap();
    assert_eq!((read(&spares, 9), spares.remaps()), (9, 1));
    spares.write_at(512 * 9, &[2; 512]).unwrap();
    assert_eq!(read(&spares, 9), 2);
}

#[test]
fn without_a_spare_left_it_is_a_medium_error() {
    let (_, disk) = memory(1);
    disk.mark_bad(3 * 512);
    disk.mark_bad(5 * 512);
    disk.write_at(5 * 512, &[1; 512]).unwrap();
    assert_eq!(disk.write_at(2 * 512, &[1; 1024]), Err(IoError::Media(Sector(3))));
    assert_eq!(disk.read_at(3 * 512, &mut [0; 512]), Err(IoError::Media(Sector(3))));
    assert_eq!((read(&disk, 2), read(&disk, 5)), (1, 1));
    assert!(disk.is_lost(3 * 512) && !disk.is_lost(5 * 512));
}

#[test]
fn cleared_spares_read_as_zeros_and_stored_ones_are_found() {
    let (_, disk) = memory(4);
    disk.mark_bad(20 * 512);
    disk.write_at(20 * 512, &[1; 512]).unwrap();
    assert_eq!(disk.stored_from(0), Some((20 * 512, 21 * 512)));
    disk.write_at(0, &[1; 512]).unwrap();
    assert_eq!(disk.stored_from(0), Some((0, 4096)));
    disk.discard(0, 64 * 1024).unwrap();
    assert_eq!(read(&disk, 20), 0);
    disk.write_at(20 * 512, &[1; 512]).unwrap();
    disk.zero(20 * 512, 512).unwrap();
    assert_eq!(read(&disk, 20), 0);
}

#[test]
fn remaps_outlive_the_daemon_and_a_torn_line_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (image, path) = (dir.path().join("sd0.img"), dir.path().join("sd0.img.spares"));
    let open = || {
        let options = FileOptions { bytes: Some(64 * 1024), ..FileOptions::default() };
        let inner = Arc::new(FileMedium::open(&image, options).unwrap());
        Spares::open(inner, 512, 4, Some(path.clone()), true)
    };
    let disk = open().unwrap();
    assert!(!path.exists());
    disk.mark_bad(10 * 512);
    disk.mark_bad(11 * 512);
    disk.write_at(11 * 512, &[9; 512]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"spindle spares 1\nbad 10\nbad 11\nmap 11 0\n\0"));
    let torn = bytes.iter().position(|byte| *byte == 0).unwrap();
    bytes[torn..torn + 6].copy_from_slice(b"map 10");
    std::fs::write(&path, bytes).unwrap();
    let disk = open().unwrap();
    assert_eq!((read(&disk, 11), disk.remap(0)), (9, Some((11, 0))));
    assert_eq!((read(&disk, 10), disk.remaps()), (0, 2));
    drop(disk);
    assert!(
        std::fs::read(&path)
            .unwrap()
            .starts_with(b"spindle spares 1\nbad 10\nbad 11\nmap 11 0\nmap 10 1\n\0")
    );
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] = b'X';
    std::fs::write(&path, bytes).unwrap();
    let why = open().err().unwrap();
    assert!(why.contains("no table of spares of version 1"), "{why}");
}

#[test]
fn spares_of_another_image_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (image, path) = (dir.path().join("a.img"), dir.path().join("a.img.spares"));
    let open = || {
        let options = FileOptions { bytes: Some(64 * 1024), ..FileOptions::default() };
        let inner = Arc::new(FileMedium::open(&image, options).unwrap());
        Spares::open(inner, 512, 4, Some(path.clone()), false)
    };
    let disk = open().unwrap();
    disk.mark_bad(10 * 512);
    drop(disk);
    let born = |path: &Path| std::fs::metadata(path).unwrap().created();
    let Ok(before) = born(&path) else { return }; // this host keeps no such times
    open().unwrap();
    std::fs::remove_file(&image).unwrap();
    loop {
        std::fs::write(&image, b"").unwrap(); // times go by the host's ticks
        if born(&image).unwrap() > before {
            break;
        }
        std::fs::remove_file(&image).unwrap();
    }
    let why = open().err().unwrap();
    assert!(why.contains("is older than"), "{why}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open().unwrap().remaps(), 0);
}

#[test]
fn a_sector_of_4096_bytes_is_remapped_whole() {
    let inner = Arc::new(RamMedium::new(64 * 1024));
    let disk = Spares::open(inner, 4096, 4, None, false).unwrap();
    disk.write_at(4096, &[5; 4096]).unwrap();
    disk.mark_bad(9 * 512);
    assert_eq!(read(&disk, 15), 5);
    assert_eq!(disk.remap(0), Some((8, 0)));
}

#[test]
fn a_spare_that_could_not_be_remembered_is_not_used() {
    let (_, spares) = memory(4);
    spares.mark_bad(512 * 9);
    spares.table.lock().text = TABLE_BYTES; // there is no room for a line
    assert_eq!(spares.write_at(512 * 9, &[1; 512]), Err(IoError::NoSpace));
    assert_eq!((read(&spares, 9), spares.remaps()), (0, 0));
}
