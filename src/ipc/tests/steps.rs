//! Killed at every numbered step.

use std::collections::BTreeMap;

use super::part::Part;
use super::roles::{ROLES, patience};
use super::{child, in_use};

const NAME: &str = "ipc::tests::steps::whoever_is_killed_at_any_step_harms_nobody";

#[test]
fn whoever_is_killed_at_any_step_harms_nobody() {
    if let Some(part) = child::words::<Part>() {
        part.play();
    }
    let _alone = crate::shm::alone();
    let mut kills = BTreeMap::new();
    for role in ROLES {
        for &step in role.steps {
            // At its first pass, and when things have been used for a while.
            let mut died = 0;
            for pass in [1, 7] {
                println!("{}, step {step}, pass {pass}", role.name);
                let before = in_use().unwrap();
                // Who never comes to the step is killed in the end: that is counted apart.
                let mut late = false;
                let killed = (role.run)(NAME, Some((step, pass)), &mut |victim| {
                    if !matches!(role.name, "consumer" | "condition") && !victim.has_ended() {
                        let patience = patience(Some((step, pass)));
                        let start = std::time::Instant::now();
                        while !victim.has_ended() && start.elapsed() < patience {
                            std::thread::sleep(std::time::Duration::from_micros(200));
                        }
                        if !victim.has_ended() {
                            late = true;
                            victim.kill();
                        }
                    }
                });
                assert_eq!(in_use().unwrap(), before, "{}, step {step}, pass {pass}: something was left", role.name);
                died += u32::from(killed && !late);
            }
            *kills.entry(step).or_insert(0) += died;
        }
    }
    let unreached: Vec<_> = kills.iter().filter(|(_, died)| **died == 0).collect();
    assert!(unreached.is_empty(), "nobody died at these steps: {unreached:?}");
    println!("{} processes were killed at {} steps", kills.values().sum::<u32>(), kills.len());
}
