"""The protocol of the peers in Python: a JSON line in on stdin, a JSON line out on stdout."""

import json
import sys
import time
import traceback


def contents(count):
    return [f"{n} {'what the agent has to say ' * 20}" for n in range(count)]


def check(work, messages, seen):
    least = {"append": 6, "last": min(20, messages), "all": messages, "list": 50}[work]
    if seen < least:
        raise RuntimeError(f"{work} of {messages} has seen {seen} instead of {least}")


async def serve(peer):
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "prepare":
                await peer.prepare(job)
                works = ["append", "last", "all", "list"]
                answer = {"works": [work for work in works if hasattr(peer, work)]}
            else:
                work = getattr(peer, job["work"])
                millis = []
                for index in job["indexes"]:
                    start = time.perf_counter()
                    seen = await work(job["messages"], index)
                    millis.append((time.perf_counter() - start) * 1000)
                    check(job["work"], job["messages"], seen)
                answer = {"millis": millis}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
