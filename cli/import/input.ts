// Opens what is to be imported: files, pipes, or stdin.
import { createReadStream } from "node:fs";
import { access, constants, stat } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import { UsageError } from "../errors.js";

/** Something to import. */
export interface Input {
  /** What people call it: the path as it was given, or `stdin`. */
  name: string;
  /** Its length in bytes; undefined where nobody knows, as of a pipe. */
  size: number | undefined;
  /** Opens it, once only where its size is not known. Reading ends with an AbortError when the signal aborts. */
  open(signal: AbortSignal): AsyncIterable<Buffer>;
}

const READ_BYTES = 256 * 1024;

/**
 * Checks that all files can be read before the first one is.
 * @param paths files; `-` for stdin
 * @throws UsageError when one of them cannot be read
 */
export async function openInputs(paths: readonly string[]): Promise<Input[]> {
  if (paths.filter((path) => path === "-").length > 1) {
    throw new UsageError("stdin (-) can be read only once");
  }
  return Promise.all(paths.map(async (path) => (path === "-" ? stdin() : file(path))));
}

function stdin(): Input {
  return {
    name: "stdin",
    size: undefined,
    open: (signal) => addAbortSignal(signal, process.stdin),
  };
}

async function file(path: string): Promise<Input> {
  try {
    await access(path, constants.R_OK);
    const facts = await stat(path);
    if (facts.isDirectory()) throw new UsageError(`${path} is a directory`, "Name its files.");
    return {
      name: path,
      size: facts.isFile() ? facts.size : undefined,
      open: (signal) => createReadStream(path, { highWaterMark: READ_BYTES, signal }),
    };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UsageError(
      missing ? `${path} is not there` : `${path} cannot be read: ${(error as Error).message}`,
      "Nothing was imported.",
    );
  }
}
