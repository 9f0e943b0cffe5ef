"""The Python peers of the process pool: `peers.py CONTESTANT WORKLOAD` runs one workload once and prints its figures.

Each pool has four workers. "Pinned" means: this process on one core, the workers on another, or all on one.
"""

import concurrent.futures
import multiprocessing
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")

WORKERS = 4
APPLIES, WARM = 3000, 500
MEGABYTE = bytes(1 << 20)


def trivial(n):
    return n + 1


def echo(value):
    return value


def pin(core):
    os.sched_setaffinity(0, {core})


def compute(loops):
    x = 1
    for _ in range(loops):
        x = (x * 6364136223846793005 + 1) & 0xFFFFFFFFFFFFFFFF
    return x


class Pool:
    """multiprocessing.Pool"""

    def __init__(self, core):
        hook = dict(initializer=pin, initargs=(core,)) if core is not None else {}
        self.pool = multiprocessing.Pool(WORKERS, **hook)

    def apply(self, f, x):
        return self.pool.apply(f, (x,))

    def map(self, f, items, chunk):
        return self.pool.map(f, items, chunksize=chunk)

    def many(self, f, items):
        return [r.get() for r in [self.pool.apply_async(f, (x,)) for x in items]]

    def end(self):
        self.pool.terminate()


class Executor:
    """concurrent.futures.ProcessPoolExecutor, and loky's, which has the same words"""

    def __init__(self, core, make=concurrent.futures.ProcessPoolExecutor):
        hook = dict(initializer=pin, initargs=(core,)) if core is not None else {}
        self.pool = make(max_workers=WORKERS, **hook)

    def apply(self, f, x):
        return self.pool.submit(f, x).result()

    def map(self, f, items, chunk):
        # These have no chunk size of their own choice: as multiprocessing's.
        return list(self.pool.map(f, items, chunksize=chunk or max(1, len(items) // (4 * WORKERS))))

    def many(self, f, items):
        return [r.result() for r in [self.pool.submit(f, x) for x in items]]

    def end(self):
        self.pool.shutdown(wait=False)


class Pebble:
    def __init__(self, core):
        from pebble import ProcessPool

        hook = dict(initializer=pin, initargs=(core,)) if core is not None else {}
        self.pool = ProcessPool(max_workers=WORKERS, **hook)

    def apply(self, f, x):
        return self.pool.schedule(f, args=[x]).result()

    def map(self, f, items, chunk):
        return list(self.pool.map(f, items, chunksize=chunk or max(1, len(items) // (4 * WORKERS))).result())

    def many(self, f, items):
        return [r.result() for r in [self.pool.schedule(f, args=[x]) for x in items]]

    def end(self):
        self.pool.stop()


def loky(core):
    from loky.process_executor import ProcessPoolExecutor

    return Executor(core, ProcessPoolExecutor)


MAKE = {"multiprocessing": Pool, "concurrent.futures": Executor, "loky": loky, "pebble": Pebble}


def main(who, work):
    make, now = MAKE[who], time.perf_counter
    few = who != "multiprocessing"
    if work == "start":
        if who == "loky":
            import loky.process_executor
        elif who == "pebble":
            import pebble
        start = now()
        pool = make(None)
        pool.apply(trivial, 1)
        print(f"microseconds={(now() - start) * 1e6}")
        pool.end()
        return
    if work in ("apply-two", "apply-one"):
        pin(0)
        pool = make(1 if work == "apply-two" else 0)
        times = []
        for n in range(APPLIES + WARM):
            start = now()
            assert pool.apply(trivial, n) == n + 1
            times.append(now() - start)
        times = sorted(times[WARM:])
        print(f"microseconds={times[len(times) // 2] * 1e6} p99={times[len(times) * 99 // 100] * 1e6}")
        pool.end()
        return
    pool = make(None)
    pool.many(trivial, range(64))
    if work == "value-1m":
        trips = 20
        for _ in range(3):
            pool.apply(echo, MEGABYTE)
        start = now()
        for _ in range(trips):
            assert len(pool.apply(echo, MEGABYTE)) == len(MEGABYTE)
        print(f"microseconds={(now() - start) / trips * 1e6}")
    elif work == "compute":
        count, loops = 4000, 1000
        for _ in range(50):
            compute(loops)
        start = time.thread_time()
        for _ in range(200):
            compute(loops)
        loops = int(loops * 100e-6 / ((time.thread_time() - start) / 200))
        start = time.thread_time()
        for _ in range(500):
            compute(loops)
        each = (time.thread_time() - start) / 500
        start = now()
        pool.many(compute, [loops] * count)
        print(f"efficiency={count * each / (2 * (now() - start))}")
    else:
        # Figures are for each task; the slower ones are given fewer.
        count = 10_000 if few and work != "map-chunks" else 50_000
        items = range(count)
        start = now()
        if work == "map-single":
            results = pool.map(trivial, items, 1)
        elif work == "map-chunks":
            results = pool.map(trivial, items, None)
        else:
            results = pool.many(trivial, items)
        elapsed = now() - start
        assert results[-1] == count
        print(f"microseconds={elapsed / count * 1e6}")
    pool.end()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    sys.stdout.flush()
    # Some of them have no quick way to end.
    for child in multiprocessing.active_children():
        os.kill(child.pid, 9)
    os._exit(0)
