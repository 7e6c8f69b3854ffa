//! The power goes at every sector that a goal writes.

use block_device::{Overlay, Recorder};
use partition_table::{Sectors, gpt};
use slots::{Goal, SlotId, Tries, View, loader_choice};
use system_disk::SystemDisk;

use crate::disk::{Content, disk, drive, state};
use crate::release::Release;

/// What the loader boots of a disk as a cut has left it, and nothing repaired:
/// the release whose slot is intact.
fn boots<'a>(
    content: &[u8],
    booted: &Release,
    releases: &[&'a Release],
    point: &str,
) -> &'a Release {
    let device = Overlay::new(content);
    let disk = SystemDisk::open(&device, Some(booted.root_hash)).expect(point);
    // Firmware reads the primary table, whatever the back-up is like.
    let primary = [512, 4096].map(|sector_size| {
        let device = &device;
        let copies = gpt::read(&Sectors {
            device,
            sector_size,
        });
        copies.unwrap().primary.is_some()
    });
    assert!(primary.contains(&true), "{point}");
    let findings = disk.esp().findings();
    assert_eq!(findings.damaged, [], "{point}");
    let view = disk.view().unwrap();
    let choice = loader_choice(&view.entries).expect(point);
    let root_hash = choice.root_hash.expect(point);
    let slot = view.slot_of(&root_hash).expect(point);
    assert!(disk.prove_named(slot, &mut |_| {}).unwrap(), "{point}");
    // Every copy of the loader is one release's, and so is every entry.
    for path in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"] {
        let loader = read(&disk, path);
        assert!(
            releases.iter().any(|release| release.loader == loader),
            "{point}"
        );
    }
    // And the slot of each file that the loader sees is whole.
    for file in disk.esp().list("EFI/Linux").unwrap() {
        if !file.name.ends_with(".efi") {
            continue;
        }
        let uki = read(&disk, &format!("EFI/Linux/{}", file.name));
        let release = releases.iter().find(|release| release.uki == uki);
        let slot = view.slot_of(&release.expect(point).root_hash);
        let slot = slot.expect(point);
        assert!(disk.prove_named(slot, &mut |_| {}).unwrap(), "{point}");
    }
    assert_eq!(read(&disk, "loader/loader.conf"), b"timeout 0\n", "{point}");
    // In any case the running slot is intact.
    let running = view.booted_slot().expect(point);
    assert!(disk.prove_named(running, &mut |_| {}).unwrap(), "{point}");
    releases
        .iter()
        .find(|release| release.root_hash == root_hash)
        .expect(point)
}

fn read<D: block_device::BlockDevice>(disk: &SystemDisk<D>, path: &str) -> Vec<u8> {
    let file = disk.esp().file(path).unwrap();
    let mut bytes = vec![0; file.length() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

struct Case<'a> {
    name: &'a str,
    content: Content<'a>,
    booted: &'a Release,
    goal: Goal,
    /// The release that is installed.
    release: &'a Release,
    /// What boots afterwards.
    then: &'a Release,
}

/// Runs the goal with a cut everywhere; returns at how many points.
fn explore(case: &Case<'_>, releases: &[&Release]) -> usize {
    let first = disk(&case.content);
    let sector_size = case.content.sector_size as usize;
    let device = Recorder::with_sectors(first.clone(), sector_size);
    let booted = Some(case.booted.root_hash);
    let open = SystemDisk::open(&device, booted).unwrap();
    let actions = drive(&open, &case.goal, case.release).unwrap();
    let wanted = state(&open);
    assert!(open.esp().findings().is_clean());
    drop(open);
    let done = device.now();
    assert!(boots(&done, case.booted, releases, case.name).root_hash == case.then.root_hash);
    // Nothing but the ESP, the table and the spare slot was written.
    let state_partition = |content: &[u8]| content.iter().filter(|byte| **byte == 0x5a).count();
    assert!(state_partition(&done) >= 4096);

    let (mut news, mut count, mut second) = (0, 0, 0);
    let points = device.cuts(|point, content| {
        let point = format!("{}, {point}", case.name);
        let choice = boots(content, case.booted, releases, &point);
        let was = boots(&first, case.booted, releases, &point);
        let is_new = choice.root_hash == case.then.root_hash;
        assert!(is_new || choice.root_hash == was.root_hash, "{point}");
        news += usize::from(is_new);
        // The program was killed, or the machine boots the old release: once more.
        let device = Overlay::new(content);
        let again = SystemDisk::open(&device, booted).unwrap();
        drive(&again, &case.goal, case.release).unwrap();
        assert_eq!(ends(state(&again)), ends(wanted.clone()), "{point}");
        again.esp().repair().unwrap();
        let again = SystemDisk::open(&device, booted).unwrap();
        assert!(again.esp().findings().is_clean(), "{point}");
        // A second power cut while the update continues.
        count += 1;
        if count % 150 == 0 {
            let device = Recorder::with_sectors(content.to_vec(), sector_size);
            let again = SystemDisk::open(&device, booted).unwrap();
            drive(&again, &case.goal, case.release).unwrap();
            second += device.cuts(|later, content| {
                let point = format!("{point}, and {later}");
                let choice = boots(content, case.booted, releases, &point);
                let is_new = choice.root_hash == case.then.root_hash;
                assert!(is_new || choice.root_hash == was.root_hash, "{point}");
            });
        }
        // The machine boots what the loader chooses, and it proves itself.
        let device = Overlay::new(content);
        let healthy = SystemDisk::open(&device, Some(choice.root_hash)).unwrap();
        drive(&healthy, &Goal::Bless, choice).unwrap();
        let blessed = healthy.view().unwrap();
        let blessed = loader_choice(&blessed.entries).unwrap();
        assert_eq!(blessed.root_hash, Some(choice.root_hash), "{point}");
    });
    println!(
        "{} (sectors of {sector_size}): {} actions, {points} points, in {news} of them boots what \
         is to be; {second} second cuts",
        case.name,
        actions.len()
    );
    points + second
}

/// A view without what hangs on how often a goal was begun.
fn ends(mut view: View) -> View {
    // A folder may have become longer by a cluster.
    view.esp_free = 0;
    view
}

#[test]
fn at_every_moment_what_the_loader_boots_is_whole() {
    let one = Release::new(1, "257.13-1~deb13u1");
    let two = Release::new(2, "257.13-1~deb13u1");
    let three = Release::new(3, "258.1-1");
    let releases = [&one, &two, &three];
    let guard = "wherry_2.0+7-0.efi";
    let both = [Some(&one), Some(&two)];
    let entries = [("wherry_1.0.efi", &one), (guard, &two)];
    let mut points = 0;
    for sector_size in [512, 4096] {
        let first = [("wherry_1.0.efi", &one)];
        let fresh = || Content {
            slots: [Some(&one), None],
            entries: &first,
            loader: &one,
            others: 0,
            sector_size,
        };
        let updated = || Content {
            slots: both,
            entries: &entries,
            loader: &one,
            others: 0,
            sector_size,
        };
        let cases = [
            Case {
                name: "first update",
                content: fresh(),
                booted: &one,
                goal: Goal::Install(two.target()),
                release: &two,
                then: &two,
            },
            Case {
                name: "update with an entry that is in two sectors",
                content: Content {
                    others: 9,
                    ..fresh()
                },
                booted: &one,
                goal: Goal::Install(two.target()),
                release: &two,
                then: &two,
            },
            Case {
                name: "update over an older release, with another loader",
                content: updated(),
                booted: &two,
                goal: Goal::Install(three.target()),
                release: &three,
                then: &three,
            },
            Case {
                name: "downgrade",
                content: Content {
                    slots: [Some(&three), Some(&two)],
                    entries: &[("wherry_3.0+0-7.efi", &three), (guard, &two)],
                    loader: &three,
                    others: 0,
                    sector_size,
                },
                booted: &two,
                goal: Goal::Install(one.target()),
                release: &one,
                then: &one,
            },
            Case {
                name: "bless",
                content: Content {
                    slots: both,
                    entries: &[("wherry_1.0.efi", &one), ("wherry_2.0+2-1.efi", &two)],
                    loader: &one,
                    others: 0,
                    sector_size,
                },
                booted: &two,
                goal: Goal::Bless,
                release: &two,
                then: &two,
            },
            Case {
                name: "bless of the only release",
                content: Content {
                    slots: [Some(&one), None],
                    entries: &[("wherry_1.0+2-1.efi", &one)],
                    loader: &one,
                    others: 0,
                    sector_size,
                },
                booted: &one,
                goal: Goal::Bless,
                release: &one,
                then: &one,
            },
            Case {
                name: "roll back",
                content: updated(),
                booted: &two,
                goal: Goal::RollBack,
                release: &two,
                then: &one,
            },
            Case {
                name: "credit",
                content: Content {
                    slots: both,
                    entries: &[("wherry_1.0.efi", &one), ("wherry_2.0+1-2.efi", &two)],
                    loader: &one,
                    others: 0,
                    sector_size,
                },
                booted: &two,
                goal: Goal::Credit(Tries { left: 2, done: 1 }),
                release: &two,
                then: &two,
            },
        ];
        for case in &cases {
            points += explore(case, &releases);
        }
    }
    println!("{points} points in all");
    assert!(points > 2000);
}

#[test]
fn the_ids_of_an_empty_slot_are_nobodys() {
    let one = Release::new(1, "257");
    let two = Release::new(2, "257");
    let content = Content {
        slots: [Some(&one), Some(&two)],
        entries: &[("wherry_1.0.efi", &one)],
        loader: &one,
        others: 0,
        sector_size: 512,
    };
    let device = Recorder::new(disk(&content));
    let open = || SystemDisk::open(&device, Some(one.root_hash)).unwrap();
    let system = open();
    let empty = slots::Action::EmptySlot { slot: SlotId::B };
    system.perform(&empty).unwrap();
    let first = state(&open());
    system.perform(&empty).unwrap();
    assert_eq!(state(&open()), first);
    let [a, b] = first.slots;
    let mut ids = vec![a.data_id, a.tree_id, b.data_id, b.tree_id];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(!ids.contains(&two.root_hash.data_id()) && !ids.contains(&two.root_hash.tree_id()));
    assert_eq!(b.label, slots::Label::Empty);
}
