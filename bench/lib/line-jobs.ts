// The protocol of the peers: a JSON line in on stdin, a JSON line out on stdout.
import { createInterface } from "node:readline";

/** Sessions of one length. */
export interface Size {
  messages: number;
  /** How many sessions of that length there are. */
  sessions: number;
}

/** What a peer makes ready. */
export interface Preparation {
  databaseUrl: string;
  sizes: Size[];
  /** Sessions of one owner, for list(). */
  listed: number;
}

/** One store, with the work that all of them do. Each work returns how much it has seen. */
export interface Peer {
  prepare(preparation: Preparation): Promise<void>;
  /** Appends a turn of six messages to session `index` of a size. */
  append(messages: number, index: number): Promise<number>;
  /** Loads the last 20 messages. */
  last(messages: number, index: number): Promise<number>;
  /** Loads all messages. */
  all(messages: number, index: number): Promise<number>;
  /** Lists 50 sessions. Absent: the store has no such operation. */
  list?(messages: number, index: number): Promise<number>;
  /** Makes a call that does nothing, where calls go over a network; returns 0. */
  nothing?(messages: number, index: number): Promise<number>;
  end(): Promise<void>;
}

/** The work to time. */
export type Work = "append" | "last" | "all" | "list" | "nothing";

/** A line that a peer reads. */
export type PeerJob =
  | ({ do: "prepare" } & Preparation)
  | { do: "time"; work: Work; messages: number; indexes: number[] };

/** Runs a peer until stdin ends. */
export async function servePeer(peer: Peer): Promise<void> {
  const answer = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
  for await (const line of createInterface({ input: process.stdin })) {
    const job = JSON.parse(line) as PeerJob;
    try {
      if (job.do === "prepare") {
        await peer.prepare(job);
        const works: Work[] = ["append", "last", "all", "list", "nothing"];
        answer({ works: works.filter((work) => peer[work]) });
        continue;
      }
      const millis: number[] = [];
      for (const index of job.indexes) {
        const start = performance.now();
        const seen = await peer[job.work]?.(job.messages, index);
        millis.push(performance.now() - start);
        check(job, seen ?? 0);
      }
      answer({ millis });
    } catch (error) {
      answer({ error: error instanceof Error ? (error.stack ?? String(error)) : String(error) });
    }
  }
  await peer.end();
}

function check({ work, messages }: Extract<PeerJob, { do: "time" }>, seen: number): void {
  const least = { append: 6, last: Math.min(20, messages), all: messages, list: 50, nothing: 0 }[
    work
  ];
  if (seen < least) throw new Error(`${work} of ${messages} has seen ${seen} instead of ${least}`);
}

/** The contents of a turn of six messages, or of any other number of them. */
export function contents(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${n} ${"what the agent has to say ".repeat(20)}`);
}
