//! Messages between processes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use ipc_channel::ipc;
use millpond::ipc::{PipeEnd, Queue, Raw, Wait, pipe};
use millpond::process::Process;

use crate::bare::{Court, Ring, shared};
use crate::two::{Forked, each, middle, pin};

/// 64 bytes.
type Message = [u64; 8];

const MANY: usize = 400_000;
const SOME: usize = 100_000;
/// Messages before the clock starts.
const WARM: usize = 20_000;
const PLACES: usize = 1024;

fn message(n: usize) -> Message {
    // Numbers of a few digits, as messages have them.
    [n as u64 & 0x7F, 1, 2, 3, 4, 5, 6, 7]
}

fn bytes(n: usize) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (eight, number) in bytes.chunks_mut(8).zip(message(n)) {
        eight.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// What a consumer does: the time for all but the first few messages.
fn consume(count: usize, mut get: impl FnMut(usize)) -> f64 {
    (0..WARM).for_each(&mut get);
    let start = Instant::now();
    (WARM..WARM + count).for_each(get);
    each(start.elapsed(), count)
}

fn put_all(queue: Queue<Message>, count: usize, processor: usize) {
    pin(processor);
    (0..count).for_each(|n| queue.put(message(n)).expect("the queue is open"));
}
fn put_all_raw(queue: Queue<Raw<Message>>, count: usize, processor: usize) {
    pin(processor);
    (0..count).for_each(|n| queue.put(Raw(message(n))).expect("the queue is open"));
}
fn get_all(queue: Queue<Message>, processor: usize) {
    pin(processor);
    while queue.get().is_ok_and(|message| message[7] == 7) {}
}
fn get_all_raw(queue: Queue<Raw<Message>>, processor: usize) {
    pin(processor);
    while queue.get().is_ok_and(|message| message.0[7] == 7) {}
}
millpond::tasks![put_all, put_all_raw, get_all, get_all_raw, answer, put_large];

/// A producer on one processor, a consumer on another.
pub fn one_way(contestant: &str) -> f64 {
    match contestant {
        "millpond" => {
            let queue = Queue::bounded(PLACES).expect("a queue");
            let producer = Process::spawn(put_all, (queue.clone(), WARM + MANY, 1)).expect("a process");
            pin(0);
            let time = consume(MANY, |n| assert_eq!(queue.get().expect("a message")[0], n as u64 & 0x7F));
            producer.join().expect("it ends");
            time
        }
        "millpond-raw" => {
            let queue = Queue::bounded(PLACES).expect("a queue");
            let producer = Process::spawn(put_all_raw, (queue.clone(), WARM + MANY, 1)).expect("a process");
            pin(0);
            let time = consume(MANY, |n| assert_eq!(queue.get().expect("a message").0[0], n as u64 & 0x7F));
            producer.join().expect("it ends");
            time
        }
        "bare" => {
            let ring: &Ring = shared();
            let producer = forked(1, move || (0..WARM + MANY).for_each(|n| ring.put(n as u64, message(n))));
            let time = consume(MANY, |n| assert_eq!(ring.get(n as u64)[0], n as u64 & 0x7F));
            producer.wait();
            time
        }
        "pipe" => {
            let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
            let producer =
                forked(1, move || (0..WARM + SOME).for_each(|n| writer.write_all(&bytes(n)).expect("a reader")));
            let mut buffer = [0; 64];
            let time = consume(SOME, |_| reader.read_exact(&mut buffer).expect("a message"));
            producer.wait();
            time
        }
        "socket" => {
            let (mut reader, mut writer) = UnixStream::pair().expect("a pair");
            let producer =
                forked(1, move || (0..WARM + SOME).for_each(|n| writer.write_all(&bytes(n)).expect("a reader")));
            let mut buffer = [0; 64];
            let time = consume(SOME, |_| reader.read_exact(&mut buffer).expect("a message"));
            producer.wait();
            time
        }
        "ipc-channel" => {
            let (sender, receiver) = ipc::channel::<Message>().expect("a channel");
            let producer =
                forked(1, move || (0..WARM + SOME).for_each(|n| sender.send(message(n)).expect("a receiver")));
            let time = consume(SOME, |n| assert_eq!(receiver.recv().expect("a message")[0], n as u64 & 0x7F));
            producer.wait();
            time
        }
        other => panic!("no such contestant: {other}"),
    }
}

/// A child on a processor of its own; the parent is on the first.
fn forked(processor: usize, run: impl FnOnce()) -> Forked {
    let child = Forked::new(|| {
        pin(processor);
        run();
    });
    pin(0);
    child
}

const MEGABYTE: usize = 1 << 20;
const LARGE: usize = 400;
const LARGE_WARM: usize = 50;

fn put_large(queue: Queue<Vec<u8>>) {
    pin(1);
    let value = vec![7; MEGABYTE];
    for _ in 0..LARGE_WARM + LARGE {
        if queue.put(value.clone()).is_err() {
            break;
        }
    }
}

fn consume_large(mut get: impl FnMut()) -> f64 {
    (0..LARGE_WARM).for_each(|_| get());
    let start = Instant::now();
    (0..LARGE).for_each(|_| get());
    each(start.elapsed(), LARGE)
}

/// Values of a megabyte each: the producer has them at hand, the consumer gets them as vectors.
pub fn by_value(contestant: &str) -> f64 {
    match contestant {
        "millpond" => {
            let queue = Queue::bounded(4).expect("a queue");
            let producer = Process::spawn(put_large, (queue.clone(),)).expect("a process");
            pin(0);
            let time = consume_large(|| assert_eq!(queue.get().expect("a value")[MEGABYTE - 1], 7));
            producer.join().expect("it ends");
            time
        }
        "pipe" => {
            let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
            let producer = forked(1, move || write_large(&mut writer));
            let time = consume_large(|| read_large(&mut reader));
            producer.wait();
            time
        }
        "socket" => {
            let (mut reader, mut writer) = UnixStream::pair().expect("a pair");
            let producer = forked(1, move || write_large(&mut writer));
            let time = consume_large(|| read_large(&mut reader));
            producer.wait();
            time
        }
        "ipc-channel" => {
            let (sender, receiver) = ipc::bytes_channel().expect("a channel");
            let producer = forked(1, move || {
                let value = vec![7; MEGABYTE];
                (0..LARGE_WARM + LARGE).for_each(|_| sender.send(&value.clone()).expect("a receiver"));
            });
            let time = consume_large(|| assert_eq!(receiver.recv().expect("a value")[MEGABYTE - 1], 7));
            producer.wait();
            time
        }
        other => panic!("no such contestant: {other}"),
    }
}

fn write_large(writer: &mut impl Write) {
    let value = vec![7; MEGABYTE];
    (0..LARGE_WARM + LARGE).for_each(|_| writer.write_all(&value.clone()).expect("a reader"));
}

fn read_large(reader: &mut impl Read) {
    let mut value = vec![0; MEGABYTE];
    reader.read_exact(&mut value).expect("a value");
    assert_eq!(value[MEGABYTE - 1], 7);
}

const SIDES: usize = 4;
const FROM_EACH: usize = 40_000;

/// Four producers and four consumers on two processors: the time until all is got.
pub fn four_to_four(contestant: &str) -> f64 {
    let all = SIDES * FROM_EACH;
    match contestant {
        "millpond" => {
            let queue = Queue::bounded(PLACES).expect("a queue");
            let consumers: Vec<_> = (0..SIDES).map(|n| Process::spawn(get_all, (queue.clone(), n)).unwrap()).collect();
            let start = Instant::now();
            let producers: Vec<_> =
                (0..SIDES).map(|n| Process::spawn(put_all, (queue.clone(), FROM_EACH, n)).unwrap()).collect();
            producers.iter().for_each(|producer| producer.join().expect("it ends"));
            queue.close();
            consumers.iter().for_each(|consumer| consumer.join().expect("it ends"));
            each(start.elapsed(), all)
        }
        "millpond-raw" => {
            let queue = Queue::bounded(PLACES).expect("a queue");
            let consumers: Vec<_> =
                (0..SIDES).map(|n| Process::spawn(get_all_raw, (queue.clone(), n)).unwrap()).collect();
            let start = Instant::now();
            let producers: Vec<_> =
                (0..SIDES).map(|n| Process::spawn(put_all_raw, (queue.clone(), FROM_EACH, n)).unwrap()).collect();
            producers.iter().for_each(|producer| producer.join().expect("it ends"));
            queue.close();
            consumers.iter().for_each(|consumer| consumer.join().expect("it ends"));
            each(start.elapsed(), all)
        }
        "pipe" => {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let consumers = sides(
                || {
                    let (mut reader, mut buffer) = (reader.try_clone().unwrap(), [0; 64]);
                    // Each read is one whole message: they are written whole, and are as long as the buffer.
                    while reader.read(&mut buffer).unwrap() == 64 {}
                },
                Some(&writer),
            );
            let start = Instant::now();
            let producers = sides(
                || {
                    let mut writer = writer.try_clone().unwrap();
                    (0..FROM_EACH).for_each(|n| writer.write_all(&bytes(n)).unwrap());
                },
                None,
            );
            producers.into_iter().for_each(Forked::wait);
            drop(writer);
            consumers.into_iter().for_each(Forked::wait);
            each(start.elapsed(), all)
        }
        "socket" => {
            let (reader, writer) = UnixDatagram::pair().expect("a pair");
            let consumers = sides(
                || {
                    let mut buffer = [0; 64];
                    while reader.recv(&mut buffer).unwrap() == 64 {}
                },
                None,
            );
            let start = Instant::now();
            let producers = sides(|| (0..FROM_EACH).for_each(|n| _ = writer.send(&bytes(n)).unwrap()), None);
            producers.into_iter().for_each(Forked::wait);
            (0..SIDES).for_each(|_| _ = writer.send(&[0]).unwrap());
            consumers.into_iter().for_each(Forked::wait);
            each(start.elapsed(), all)
        }
        other => panic!("no such contestant: {other}"),
    }
}

/// Four children, two on each processor; they close what they are not to have.
fn sides(run: impl Fn(), not: Option<&std::io::PipeWriter>) -> Vec<Forked> {
    use std::os::fd::AsRawFd;
    let side = |n| {
        Forked::new(|| {
            if let Some(writer) = not {
                // SAFETY: the child's copy, which it doesn't use.
                unsafe { libc::close(writer.as_raw_fd()) };
            }
            pin(n);
            run();
        })
    };
    (0..SIDES).map(side).collect()
}

const TRIPS: u32 = 4_000;
const TRIPS_WARM: u32 = 1_000;

fn answer(mut end: PipeEnd<u64, u64>, processor: usize, wait: u8) {
    pin(processor);
    end.set_wait(way(wait));
    while let Ok(n) = end.recv() {
        if end.send(n).is_err() {
            break;
        }
    }
}

fn way(wait: u8) -> Wait {
    match wait {
        0 => Wait::Brief,
        1 => Wait::Sleep,
        _ => Wait::Spin,
    }
}

fn trips(mut there_and_back: impl FnMut(u32)) -> f64 {
    (1..=TRIPS_WARM).for_each(&mut there_and_back);
    let time = |n| {
        let start = Instant::now();
        there_and_back(n);
        start.elapsed()
    };
    middle((TRIPS_WARM + 1..=TRIPS_WARM + TRIPS).map(time).collect::<Vec<Duration>>())
}

/// There and back between two processes on these processors: the middle of the times.
pub fn ping_pong(contestant: &str, processors: [usize; 2]) -> f64 {
    let [near, far] = processors;
    let all = TRIPS_WARM + TRIPS;
    match contestant {
        "millpond" | "millpond-sleep" | "millpond-spin" => {
            let wait = ["millpond", "millpond-sleep", "millpond-spin"].iter().position(|way| *way == contestant);
            let wait = wait.map_or(0, |wait| wait as u8);
            pin(near);
            let (mut end, other) = pipe::<u64, u64>().expect("a pipe");
            let child = Process::spawn(answer, (other, far, wait)).expect("a process");
            end.set_wait(way(wait));
            let time = trips(|n| {
                end.send(n.into()).expect("the other end");
                assert_eq!(end.recv().expect("an answer"), u64::from(n));
            });
            drop(end);
            child.join().expect("it ends");
            time
        }
        "bare" | "bare-spin" => {
            let (court, sleep): (&Court, bool) = (shared(), contestant == "bare");
            let child = on(near, far, move || (1..=all).for_each(|n| court.answer(n, sleep)));
            let time = trips(|n| court.serve(n, sleep));
            child.wait();
            time
        }
        "pipe" => {
            let ((mut there, mut thrown), (mut back, mut answered)) =
                (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
            let child = on(near, far, move || {
                let mut ball = [0; 8];
                (0..all).for_each(|_| {
                    there.read_exact(&mut ball).and_then(|()| answered.write_all(&ball)).expect("the other side");
                });
            });
            let mut ball = [0; 8];
            let time =
                trips(|_| thrown.write_all(&ball).and_then(|()| back.read_exact(&mut ball)).expect("the other side"));
            child.wait();
            time
        }
        "socket" => {
            let (mut near_end, mut far_end) = UnixStream::pair().expect("a pair");
            let child = on(near, far, move || {
                let mut ball = [0; 8];
                (0..all).for_each(|_| {
                    far_end.read_exact(&mut ball).and_then(|()| far_end.write_all(&ball)).expect("the other side");
                });
            });
            let mut ball = [0; 8];
            let time = trips(|_| {
                near_end.write_all(&ball).and_then(|()| near_end.read_exact(&mut ball)).expect("the other side");
            });
            child.wait();
            time
        }
        other => panic!("no such contestant: {other}"),
    }
}

fn on(near: usize, far: usize, run: impl FnOnce()) -> Forked {
    let child = Forked::new(|| {
        pin(far);
        run();
    });
    pin(near);
    child
}
