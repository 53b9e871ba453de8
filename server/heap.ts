// How much garbage a server's process keeps before it collects all of it.
import v8 from "node:v8";

// V8 counts the memory of buffers too, which it frees long before, and takes the next full
// collection to be due when it has grown by a share of what is alive: on a small heap after 15 MiB
// of pages. Twice what is alive is within what V8 allows for by itself on busier heaps; the benchmark
// of streams chose it (docs/decisions/0006).
const GROWTH_PERCENT = 200;

/** Sets this for the process that it is called in, before it serves. */
export function setHeapGrowth(): void {
  v8.setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
