//! Killed at random instants.

use std::time::{Duration, Instant};

use super::part::Part;
use super::roles::ROLES;
use super::{child, in_use};

const NAME: &str = "ipc::tests::random::whoever_is_killed_at_a_random_instant_harms_nobody";

/// xorshift, from a seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn kill_at_random(kills: u32, seed: u64) {
    let mut random = Random(seed);
    let mut killed = 0;
    for n in 0..kills {
        let role = &ROLES[n as usize % ROLES.len()];
        let before = in_use().unwrap();
        let wait = Duration::from_micros(random.below(2_000));
        let died = (role.run)(NAME, None, &mut |victim| {
            let start = Instant::now();
            while start.elapsed() < wait {
                crate::primitive::spin_loop();
            }
            victim.kill();
        });
        killed += u32::from(died);
        let context = format!("{}, kill {n} of seed {seed:#x}, after {wait:?}", role.name);
        assert_eq!(in_use().unwrap(), before, "{context}: something was left");
    }
    // One that was done before it could be killed is the exception.
    assert!(killed * 10 >= kills * 8, "only {killed} of {kills} were killed while they lived");
    println!("{killed} processes were killed at random instants");
}

#[test]
fn whoever_is_killed_at_a_random_instant_harms_nobody() {
    if let Some(part) = child::words::<Part>() {
        part.play();
    }
    let _alone = crate::shm::alone();
    let kills = std::env::var("MILLPOND_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(64);
    kill_at_random(kills, 0x9E37_79B9_7F4A_7C15);
}
