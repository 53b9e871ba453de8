// Runs an import: reads lines, keeps several conversations under way, reports them in order.
import { createHash } from "node:crypto";
import type { AgentStoreClient } from "../../client/index.js";
import { type Line, readLines } from "../../server/lines.js";
import { BadLineError } from "./bad-line.js";
import { type ImportedConversation, readConversation } from "./conversation.js";
import type { Input } from "./input.js";
import { Occurrences } from "./occurrences.js";
import { type StoredStatus, storeConversation } from "./store.js";

/** What became of one line. */
export interface LineReport {
  file: string;
  /** 1 for the first line. */
  line: number;
  status: StoredStatus | "bad";
  /** The session; absent for a bad line. */
  conversationId?: bigint;
  model?: string;
  /** How many messages the conversation has. */
  messages?: number;
  /** What is wrong with a bad line. */
  error?: string;
  /** What a person should know about a line that is imported all the same. */
  warnings?: string[];
}

/** Where an import tells what happens; each call is awaited, in the order of the lines. */
export interface ImportEvents {
  line(report: LineReport): Promise<void>;
  /** So many bytes of the current input are done. */
  progress(input: Input, bytes: number): void;
}

export interface ImportOptions {
  /** The model of all conversations; undefined: the line's own, else `imported`. */
  model: string | undefined;
  /** Stops the import when it aborts. */
  signal: AbortSignal;
}

const DEFAULT_MODEL = "imported";
const MAX_LINE_BYTES = 128 * 1024 * 1024;
const CONVERSATIONS_UNDER_WAY = 8;
const BYTES_UNDER_WAY = 64 * 1024 * 1024;

/**
 * Imports all inputs. Bad lines are reported and passed over.
 * @throws AgentStoreError when the store cannot be reached or is full: what was reported until then
 *   is stored, and running the same import again goes on from there
 * @throws AbortError, the client's or another one, when the signal aborted
 */
export async function runImport(
  store: AgentStoreClient,
  inputs: readonly Input[],
  options: ImportOptions,
  events: ImportEvents,
): Promise<void> {
  // A failure stops the reading and the conversations under way; each can be resumed.
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const reports = new Reports(events, () => failed.abort());
  try {
    for (const input of inputs) {
      const occurrences = new Occurrences();
      for await (const line of readLines(input.open(signal), MAX_LINE_BYTES)) {
        await reports.room(line.bytes.length);
        signal.throwIfAborted();
        const digest = createHash("sha256").update(line.bytes).digest();
        const occurrence = occurrences.next(digest);
        reports.add(
          input,
          line,
          importLine(store, line, { digest, occurrence }, options.model, signal),
        );
      }
    }
    await reports.room(Infinity);
  } catch (error) {
    failed.abort();
    throw (await reports.failure()) ?? error;
  }
}

/** The lines under way: few enough, and reported in their order as soon as they can be. */
class Reports {
  readonly #events: ImportEvents;
  readonly #onFailure: () => void;
  /** One for each line under way. One that fails stays, and so do those behind it. */
  readonly #pending: Promise<void>[] = [];
  #bytes = 0;

  constructor(events: ImportEvents, onFailure: () => void) {
    this.#events = events;
    this.#onFailure = onFailure;
  }

  /** Waits until a line of so many bytes may be begun; Infinity: until all are reported. */
  async room(bytes: number): Promise<void> {
    while (
      this.#pending.length >= CONVERSATIONS_UNDER_WAY ||
      (this.#pending.length > 0 && this.#bytes + bytes > BYTES_UNDER_WAY)
    ) {
      await this.#pending[0];
    }
  }

  add(input: Input, line: Line, work: Promise<WorkReport>): void {
    this.#bytes += line.bytes.length;
    // Caught here, because nobody awaits it before the lines ahead of it are reported.
    const result = work.catch((failure: unknown) => ({ failure }));
    const report = this.#report(this.#pending.at(-1), input, line, result);
    report.catch(this.#onFailure);
    this.#pending.push(report);
  }

  /** Waits until nothing is under way any more; returns the failure of the first line that has one. */
  async failure(): Promise<unknown> {
    const ends = await Promise.allSettled(this.#pending);
    return ends.find((end) => end.status === "rejected")?.reason;
  }

  async #report(
    before: Promise<void> | undefined,
    input: Input,
    line: Line,
    work: Promise<WorkReport | { failure: unknown }>,
  ): Promise<void> {
    await before;
    const result = await work;
    if ("failure" in result) throw result.failure;
    await this.#events.line({ file: input.name, line: line.number, ...result });
    this.#events.progress(input, line.endOffset);
    this.#bytes -= line.bytes.length;
    void this.#pending.shift();
  }
}

type WorkReport = Omit<LineReport, "file" | "line">;

async function importLine(
  store: AgentStoreClient,
  line: Line,
  identity: { digest: Buffer; occurrence: number },
  givenModel: string | undefined,
  signal: AbortSignal,
): Promise<WorkReport> {
  try {
    const conversation = read(line);
    const model = givenModel ?? conversation.model ?? DEFAULT_MODEL;
    const stored = await storeConversation(store, conversation, { model, ...identity }, signal);
    const { warnings } = conversation;
    return {
      ...stored,
      model,
      messages: conversation.messages.length,
      ...(warnings.length > 0 && { warnings }),
    };
  } catch (error) {
    if (error instanceof BadLineError) return { status: "bad", error: error.message };
    throw error;
  }
}

function read(line: Line): ImportedConversation {
  if (line.tooLong) {
    throw new BadLineError(`is longer than ${MAX_LINE_BYTES / 1024 / 1024} MiB`);
  }
  return readConversation(line.bytes);
}
