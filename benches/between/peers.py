"""Python's multiprocessing, as a peer: one workload in a process of its own; prints nanoseconds for each."""
import multiprocessing as mp
import os
import sys
import time

WARM, MANY, LARGE_WARM, LARGE, TRIPS_WARM, TRIPS, LOCKED = 2_000, 40_000, 20, 200, 500, 2_000, 100_000
MESSAGE, MEGABYTE = bytes(64), bytes(1 << 20)


def pin(processor):
    os.sched_setaffinity(0, {processor % os.cpu_count()})


def put(queue, value, count):
    pin(1)
    for _ in range(count):
        queue.put(value)


def consume(value, warm, count):
    queue = mp.Queue(1024)
    child = mp.Process(target=put, args=(queue, value, warm + count))
    child.start()
    pin(0)
    for _ in range(warm):
        queue.get()
    start = time.perf_counter_ns()
    for _ in range(count):
        assert len(queue.get()) == len(value)
    each = (time.perf_counter_ns() - start) / count
    child.join()
    return each


def answer(end, processor):
    pin(processor)
    for _ in range(TRIPS_WARM + TRIPS):
        end.send_bytes(end.recv_bytes())


def ping_pong(far):
    near_end, far_end = mp.Pipe()
    child = mp.Process(target=answer, args=(far_end, far))
    child.start()
    pin(0)
    times = []
    for _ in range(TRIPS_WARM + TRIPS):
        start = time.perf_counter_ns()
        near_end.send_bytes(b"12345678")
        near_end.recv_bytes()
        times.append(time.perf_counter_ns() - start)
    child.join()
    return sorted(times[TRIPS_WARM:])[TRIPS // 2]


def lock_often(lock, count):
    for _ in range(count):
        with lock:
            pass


def locks(processes):
    lock = mp.Lock()
    if processes == 1:
        pin(0)
        start = time.perf_counter_ns()
        lock_often(lock, LOCKED)
        return (time.perf_counter_ns() - start) / LOCKED
    children = [mp.Process(target=lock_often, args=(lock, LOCKED)) for _ in range(processes)]
    start = time.perf_counter_ns()
    for child in children:
        child.start()
    for child in children:
        child.join()
    return (time.perf_counter_ns() - start) / LOCKED / processes


if __name__ == "__main__":
    mp.set_start_method("fork")
    WORKLOADS = {
        "queue-64": lambda: consume(MESSAGE, WARM, MANY),
        "value-1m": lambda: consume(MEGABYTE, LARGE_WARM, LARGE),
        "ping-two": lambda: ping_pong(1),
        "ping-one": lambda: ping_pong(0),
        "lock-1": lambda: locks(1),
        "lock-2": lambda: locks(2),
        "lock-4": lambda: locks(4),
    }
    print(WORKLOADS[sys.argv[1]]())
