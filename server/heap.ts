// How a server's process collects its garbage.
import os from "node:os";
import v8 from "node:v8";

// V8 counts the memory of buffers too, which it frees long before, and takes the next full
// collection to be due when it has grown by a share of what is alive: on a small heap after 15 MiB
// of pages. Twice what is alive is within what V8 allows for by itself on busier heaps; the benchmark
// of streams chose it (docs/decisions/0006).
const GROWTH_PERCENT = 200;

// With so few cores, the threads that V8 spreads a small collection over wait for cores that Postgres
// and the clients have, and the server's thread waits for them: the benchmark of appends chose it
// (docs/decisions/0018). With a core to spare they would save a third of the pause.
const FEW_CORES = 2;

/** Sets this for the process that it is called in, before it serves. */
export function tuneHeap(): void {
  v8.setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
  if (os.availableParallelism() <= FEW_CORES) v8.setFlagsFromString("--no-parallel-scavenge");
}
