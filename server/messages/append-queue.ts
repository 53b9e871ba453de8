// Group commit: appends that arrive while others are being written share the next transaction.
import { limits } from "../config.js";
import type { Database, Statement } from "../db/database.js";
import { overloaded } from "../errors/postgres.js";
import { RpcError, sessionNotFound, tooLong } from "../errors/rpc-error.js";
import type { Cancellation } from "../rpc/cancellation.js";
import type { Append, Appended } from "./append.js";
import { appendGroup } from "./append-group.js";
import type { Outcome, Plan } from "./append-plan.js";
import { toAgentMessage } from "./message.js";
import { SessionHeads } from "./session-heads.js";
import type { LockedSessionRow } from "./sql.js";
import * as sql from "./sql.js";

interface Waiting {
  write: Append;
  cancellation: Cancellation;
  resolve: (appended: Appended) => void;
  reject: (error: unknown) => void;
}

/** How a queue appends, and who hears of it. */
export interface AppendQueueOptions {
  audited?: boolean | undefined;
  onAppended?: (plan: Plan) => void;
}

/** The appends of one server process. */
export class AppendQueue {
  readonly audited: boolean;
  readonly #db: Database;
  readonly #onAppended: AppendQueueOptions["onAppended"];
  readonly #heads = new SessionHeads();
  #waiting: Waiting[] = [];
  /** The sessions that have an append under way: the next one has to come after it. */
  readonly #busy = new Set<bigint>();
  #flushes = 0;

  /**
   * @param options.audited whether the audit log records appends too
   * @param options.onAppended hears what was appended, when it is committed
   */
  constructor(db: Database, { audited = false, onAppended }: AppendQueueOptions = {}) {
    this.#db = db;
    this.audited = audited;
    this.#onAppended = onAppended;
  }

  /**
   * Appends in the next group. Appends to one session are written in the order
   * of these calls. A cancellation drops an append that is not being written yet.
   *
   * @throws SESSION_NOT_FOUND, LAST_SEQ_MISMATCH, LEASE_LOST, ETAG_MISMATCH, REQUEST_ID_REUSED,
   *   OVERLOADED, and the cancellation's reason
   */
  append(write: Append, cancellation: Cancellation): Promise<Appended> {
    if (this.#waiting.length >= limits.waitingAppends) {
      throw overloaded("too many appends wait", undefined, limits.waitingAppends);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ write, cancellation, resolve, reject });
      // Calls that have come in the same packet are dispatched before the flush.
      if (this.#flushes < limits.appendFlushes) {
        this.#flushes++;
        setImmediate(() => void this.#flush());
      }
    });
  }

  async #flush(): Promise<void> {
    for (let group = this.#take(); group.length > 0; group = this.#take()) {
      const sessions = group.map(({ write }) => write.conversationId);
      for (const id of sessions) this.#busy.add(id);
      const postponed = await this.#write(group);
      for (const id of sessions) this.#busy.delete(id);
      // Sessions that others hold are waited for aside, each by itself.
      for (const waiting of bySession(postponed)) void this.#writeAside(waiting);
    }
    this.#flushes--;
  }

  // Takes what can be written now, oldest first, and leaves the rest. On Citus a transaction over
  // several nodes is committed in two phases, so there a group is of one node.
  #take(): Waiting[] {
    const group: Waiting[] = [];
    const left: Waiting[] = [];
    const passed = new Set<bigint>();
    const { shards } = this.#db;
    let node: number | undefined;
    let messages = 0;
    for (const waiting of this.#waiting) {
      const { write, cancellation, reject } = waiting;
      const id = write.conversationId;
      const place = shards?.nodeOf(id);
      if (cancellation.reason) {
        reject(cancellation.reason);
      } else if (
        this.#busy.has(id) ||
        passed.has(id) ||
        (messages > 0 && place !== node) ||
        (messages > 0 && messages + write.messages.length > limits.appendGroupMessages)
      ) {
        passed.add(id);
        left.push(waiting);
      } else {
        node = place;
        messages += write.messages.length;
        group.push(waiting);
      }
    }
    this.#waiting = left;
    return group;
  }

  // Writes a group and answers it; returns those whose session was not to be had.
  async #write(group: Waiting[]): Promise<Waiting[]> {
    const limit = new GroupLimit(group);
    try {
      const writes = group.map(({ write }) => write);
      const outcomes = await this.#append(writes, sql.lockSessions, limit.signal);
      return group.filter((waiting, index) => !this.#answer(waiting, outcomes[index]));
    } catch (error) {
      // What the database could not do for all, it cannot do for one; anything
      // else may be the fault of one append, and is not to be its neighbours'.
      const waited = group.some(({ cancellation }) => !cancellation.reason);
      if (group.length > 1 && waited && !isOutage(error)) return group;
      for (const { cancellation, reject } of group) reject(cancellation.reason ?? error);
      return [];
    } finally {
      limit.end();
    }
  }

  async #append(
    writes: Append[],
    lock: Statement<LockedSessionRow>,
    signal: AbortSignal,
  ): Promise<Outcome[]> {
    const plan = await appendGroup(this.#db, this.#heads, writes, lock, signal);
    this.#onAppended?.(plan);
    return plan.outcomes;
  }

  async #writeAside(appends: Waiting[]): Promise<void> {
    const id = appends[0]?.write.conversationId ?? 0n;
    this.#busy.add(id);
    for (const waiting of appends) {
      const { write, cancellation, reject } = waiting;
      const limit = new GroupLimit([waiting]);
      try {
        const [outcome] = await this.#append([write], sql.awaitSession, limit.signal);
        if (!this.#answer(waiting, outcome)) reject(sessionNotFound(id));
      } catch (error) {
        reject(cancellation.reason ?? error);
      } finally {
        limit.end();
      }
    }
    this.#busy.delete(id);
    // What has queued up behind may find no flush running.
    if (this.#waiting.length > 0 && this.#flushes < limits.appendFlushes) {
      this.#flushes++;
      void this.#flush();
    }
  }

  // Says whether the outcome is one to answer with.
  #answer(
    { write, cancellation, resolve, reject }: Waiting,
    outcome: Outcome | undefined,
  ): boolean {
    switch (outcome?.kind) {
      case "appended":
        resolve({ messages: outcome.messages, stateEtag: outcome.stateEtag, replayed: false });
        return true;
      case "same":
        resolve({
          messages: outcome.as.messages,
          stateEtag: outcome.as.stateEtag,
          replayed: true,
        });
        return true;
      case "replayed":
        this.#read(write.conversationId, outcome, cancellation.signal).then(resolve, reject);
        return true;
      case "refused":
        reject(outcome.error);
        return true;
      default:
        return false;
    }
  }

  async #read(
    id: bigint,
    { firstSeq, lastSeq, stateEtag }: Outcome & { kind: "replayed" },
    signal: AbortSignal,
  ): Promise<Appended> {
    const rows = await this.#db.query(sql.getAppended, [id, firstSeq, lastSeq], signal);
    if (rows.length === 0) throw sessionNotFound(id);
    return { messages: rows.map(toAgentMessage), stateEtag, replayed: true };
  }
}

// Ends a group when nobody waits for it any more, or when it has taken too long.
class GroupLimit {
  readonly #gone = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #left: number;

  constructor(group: Waiting[]) {
    this.#left = group.length;
    const onCancel = () => {
      this.#left--;
      if (this.#left === 0) this.#gone.abort(group[0]?.cancellation.reason);
    };
    for (const { cancellation } of group) {
      if (cancellation.reason) onCancel();
      else cancellation.onCancel(onCancel);
    }
    this.#timer = setTimeout(() => this.#gone.abort(tooLong()), limits.callMs);
    this.#timer.unref();
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function isOutage(error: unknown): boolean {
  return (
    error instanceof RpcError &&
    ["DATABASE_UNAVAILABLE", "OVERLOADED", "STORAGE_EXHAUSTED"].includes(error.reason)
  );
}

function bySession(appends: Waiting[]): Waiting[][] {
  const groups = new Map<bigint, Waiting[]>();
  for (const waiting of appends) {
    const id = waiting.write.conversationId;
    const group = groups.get(id);
    if (group) group.push(waiting);
    else groups.set(id, [waiting]);
  }
  return [...groups.values()];
}
