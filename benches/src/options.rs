//! What a benchmark is asked on its command line.

use std::path::PathBuf;

use crate::Profile;

/// The options that the benchmarks share.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each contestant runs.
    pub rounds: usize,
    /// Only these workloads, if any are named.
    pub only: Vec<String>,
    /// Only these peers, if any are named.
    pub peers: Vec<String>,
    /// How the workers are built.
    pub profile: Profile,
    /// Tables of processor time and page faults, too.
    pub details: bool,
    /// A file to which every run is added; the tables are then over all runs in it.
    pub record: Option<PathBuf>,
    /// The workers are taken as they were built last.
    pub built: bool,
}

/// What can be asked.
const USAGE: &str = "\
  --rounds N       rounds of each workload (15)
  --quick          three rounds
  --only A,B       these workloads only
  --peers A,B      these peers only
  --lto            workers built with fat LTO instead of the default release profile
  --details        processor time and page faults, too
  --record FILE    adds the rounds to those in FILE, for tables over all of them: a long run in pieces
                   (--rounds 0: only the tables); Cargo starts a benchmark in `benches`, from where a relative path counts
  --built          takes the workers as they were built last";

impl Options {
    /// Reads the command line; explains itself and ends the program where it cannot.
    pub fn from_command_line() -> Self {
        Self::parse(std::env::args().skip(1)).unwrap_or_else(|reason| {
            eprintln!("{reason}\n{USAGE}");
            std::process::exit(2)
        })
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 15,
            only: vec![],
            peers: vec![],
            profile: Profile::Release,
            details: false,
            record: None,
            built: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(&value()?)?,
                "--quick" => options.rounds = 3,
                "--only" => options.only = list(&value()?),
                "--peers" => options.peers = list(&value()?),
                "--lto" => options.profile = Profile::FatLto,
                "--details" => options.details = true,
                "--record" => options.record = Some(value()?.into()),
                "--built" => options.built = true,
                "--help" => {
                    println!("{USAGE}");
                    std::process::exit(0)
                }
                "--bench" => {} // Cargo says this to every benchmark.
                _ => return Err(format!("{argument} is not known")),
            }
        }
        if options.rounds == 0 && options.record.is_none() {
            return Err("at least one round is needed".into());
        }
        Ok(options)
    }

    /// Whether a workload of this name is to run.
    pub fn wants_workload(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Whether a peer of this name is to run.
    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// Whether everything that can run does.
    pub fn is_complete(&self) -> bool {
        self.only.is_empty() && self.peers.is_empty()
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a number"))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}
