// Callers that append through several servers, do much of it wrongly or give up, and keep a ledger.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { AgentStoreError } from "../../client/index.js";
import { assertCountersAgree } from "./counters.js";
import { withClient } from "./postgres.js";
import {
  newMessage,
  type RequestOf,
  type ResponseOf,
  type StubOptions,
  type Stubs,
} from "./stubs.js";

/** What became of an append, as far as its caller knows. */
export interface Entry {
  caller: number;
  /** Counts the caller's calls, in the order in which they began. */
  call: number;
  session: bigint;
  contents: string[];
  end: "acknowledged" | "refused" | "unknown";
  /** Of an acknowledged append. */
  seqs: bigint[];
}

/** What callers do and have to put up with. */
export interface MixedOptions {
  /** A channel to each server. A caller uses any of them for any call. */
  servers: Stubs[];
  sessions: bigint[];
  /** The servers' limit. */
  maxMessageBytes: number;
  random: (below: number) => number;
  /** Whether anything is being killed: without that, a call that is not wrong does not fail. */
  killing: () => boolean;
  /** What has become of each append; added to. */
  ledger: Entry[];
}

interface Append {
  call: number;
  session: bigint;
  contents: string[];
  fields?: RequestOf<"addMessages">;
  options?: StubOptions;
  server?: Stubs;
  /** The reason or code that it may fail with, whatever else goes on. */
  mayFail?: string;
}

/** One caller, which makes its calls one after the other. */
export class MixedCaller {
  #calls = 0;

  constructor(
    readonly caller: number,
    readonly options: MixedOptions,
  ) {}

  /** Makes a call of any kind and enters what became of it. */
  async step(): Promise<void> {
    const { random } = this.options;
    const ways = [
      () => this.#append(this.#new()),
      () => this.#append(this.#new(3)),
      () => this.#run(),
      () => this.#repeated(),
      () => this.#replayed(),
      () => this.#atTheRightPlace(),
      () => this.#otherBody(),
      () => this.#refused({ fields: { expectedLastSeq: 1n << 40n }, mayFail: "LAST_SEQ_MISMATCH" }),
      () => this.#refused({ session: 1n << 40n, mayFail: "SESSION_NOT_FOUND" }),
      () => this.#overTheLimit(),
      () => this.#cancelled(),
      () => this.#append({ ...this.#new(), ...shortDeadline(random) }),
      () => this.#hasty(),
    ];
    await ways[random(ways.length)]!();
  }

  // Some over one channel, not waiting for each other: they are written in this order. They arrive a
  // little apart, so that they meet different groups.
  async #run(): Promise<void> {
    const { session } = this.#new();
    const server = this.#server();
    const run: Promise<Entry>[] = [];
    for (let n = 0; n < 6; n++) {
      run.push(this.#append({ ...this.#new(), session, server }));
      await sleep(1);
    }
    const entries = await Promise.all(run);
    const seqs = entries.flatMap((entry) => entry.seqs);
    expect(seqs, "the order of a run").toEqual(seqs.toSorted((a, b) => Number(a - b)));
  }

  // Repeats an append under its request_id, at any server, until one has answered.
  async #repeated(append = this.#new()): Promise<Entry & { requestId: string }> {
    const requestId = append.fields?.requestId ?? randomUUID();
    for (;;) {
      const answer = await this.#ask({ ...append, fields: { requestId } });
      if (answer) return { ...this.#enter(append, "acknowledged", answer), requestId };
      await sleep(50);
    }
  }

  async #replayed(): Promise<void> {
    const { requestId, seqs, ...append } = await this.#repeated();
    const answer = await this.#ask({ ...append, fields: { requestId } });
    if (answer) expect([answer.replayed, seqsOf(answer)]).toEqual([true, seqs]);
  }

  async #otherBody(): Promise<void> {
    const { session, requestId } = await this.#repeated();
    await this.#refused({ session, fields: { requestId }, mayFail: "REQUEST_ID_REUSED" });
  }

  // Others append meanwhile, so that it may have become the wrong one.
  async #atTheRightPlace(): Promise<void> {
    const append = this.#new();
    const read = this.#server().call("getSession", { conversationId: append.session });
    const expectedLastSeq = (await read.catch(() => undefined))?.session?.lastSeq ?? 0n;
    const fields = { expectedLastSeq };
    const entry = await this.#append({ ...append, fields, mayFail: "LAST_SEQ_MISMATCH" });
    if (entry.end === "acknowledged") expect(entry.seqs).toEqual([expectedLastSeq + 1n]);
  }

  async #overTheLimit(): Promise<void> {
    const contents = [this.#content() + "x".repeat(this.options.maxMessageBytes)];
    await this.#refused({ contents, mayFail: "INVALID_ARGUMENT" });
  }

  async #cancelled(): Promise<void> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.options.random(30));
    await this.#append({ ...this.#new(), options: abort, mayFail: "CANCELLED" });
    clearTimeout(timer);
  }

  // Gives up, and asks once more what has become of it.
  async #hasty(): Promise<void> {
    const append = { ...this.#new(), fields: { requestId: randomUUID() } };
    await this.#ask({ ...append, ...shortDeadline(this.options.random) });
    await this.#repeated(append);
  }

  async #append(append: Append): Promise<Entry> {
    const answer = await this.#ask(append);
    return this.#enter(append, answer ? "acknowledged" : "unknown", answer);
  }

  async #refused(append: Partial<Append>): Promise<void> {
    const wrong = { ...this.#new(), ...append };
    expect(await this.#ask(wrong), `what fails with ${wrong.mayFail}`).toBeUndefined();
    this.#enter(wrong, "refused");
  }

  /** Returns undefined when the call has failed as it may. */
  async #ask(append: Append): Promise<ResponseOf<"addMessages"> | undefined> {
    const { session, contents, fields, options, mayFail, server = this.#server() } = append;
    const messages = contents.map((content) => newMessage({ content }));
    try {
      const request = { conversationId: session, messages, ...fields };
      return await server.call("addMessages", request, options);
    } catch (error) {
      const { code, reason } = error as AgentStoreError;
      if (mayFail === code || mayFail === reason) return undefined;
      // No reason: the server was killed, and the channel says what it makes of that.
      const away = reason === "" || code === "UNAVAILABLE" || reason === "OVERLOADED";
      if (this.options.killing() && away) return undefined;
      throw new Error(`a call that is not wrong has failed with ${code} ${reason}`, {
        cause: error,
      });
    }
  }

  #enter(append: Append, end: Entry["end"], answer?: ResponseOf<"addMessages">): Entry {
    const { call, session, contents } = append;
    const seqs = answer ? seqsOf(answer) : [];
    const entry = { caller: this.caller, call, session, contents, end, seqs };
    this.options.ledger.push(entry);
    return entry;
  }

  #new(messages = 1): Append {
    const { sessions, random } = this.options;
    const contents = Array.from({ length: messages }, () => this.#content());
    return { call: this.#calls++, session: sessions[random(sessions.length)]!, contents };
  }

  #content(): string {
    return `${this.caller} ${randomUUID()}`;
  }

  #server(): Stubs {
    const { servers, random } = this.options;
    return servers[random(servers.length)]!;
  }
}

/**
 * Asserts of a ledger that every acknowledged append is where it was said to be, once; that none
 * that was refused is there; that an unknown one is there as a whole or not, once at the most; that
 * nothing else is there; that seqs have no gaps; that counters agree; and that each caller's
 * appends to a session are in the order of its calls.
 *
 * @returns how many messages there are, and how many of them nobody had an answer for
 */
export async function verifyLedger(
  databaseUrl: string,
  ledger: Entry[],
): Promise<{ messages: number; unanswered: number }> {
  await assertCountersAgree(databaseUrl);
  const { rows } = await withClient(databaseUrl, (client) =>
    client.query<{ conversation_id: string; seq: string; content: string }>(
      "SELECT conversation_id, seq, content FROM conversation_messages",
    ),
  );
  const placeOf = new Map(rows.map((row) => [row.content, `${row.conversation_id}/${row.seq}`]));
  expect(placeOf.size, "every content is there once").toBe(rows.length);
  let acknowledged = 0;
  let unanswered = 0;
  const last = new Map<string, bigint>();
  for (const entry of ledger.toSorted((a, b) => a.call - b.call)) {
    const { caller, session, contents, end, seqs } = entry;
    const places = contents.map((content) => placeOf.get(content));
    if (end === "acknowledged") {
      expect(places, "an acknowledged append is where it was said to be").toEqual(
        seqs.map((seq) => `${session}/${seq}`),
      );
      expect(seqs).toEqual(seqs.map((_, n) => seqs[0]! + BigInt(n)));
      const line = `${caller} in ${session}`;
      expect(seqs[0], "the order of a caller").toBeGreaterThan(last.get(line) ?? 0n);
      last.set(line, seqs.at(-1)!);
      acknowledged += contents.length;
    } else {
      const written = places.filter((place) => place !== undefined).length;
      const possible = end === "refused" ? [0] : [0, contents.length];
      expect(possible, `an append that is ${end}`).toContain(written);
      unanswered += written;
    }
  }
  expect(acknowledged + unanswered, "nothing is there that nobody wrote").toBe(rows.length);
  return { messages: rows.length, unanswered };
}

function shortDeadline(random: (below: number) => number): Pick<Append, "options" | "mayFail"> {
  return { options: { deadlineMs: random(30) }, mayFail: "DEADLINE_EXCEEDED" };
}

function seqsOf({ messages }: ResponseOf<"addMessages">): bigint[] {
  return messages.map(({ seq }) => seq);
}
