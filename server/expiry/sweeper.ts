// Removes in the background what has had its time: sessions, answers that nobody repeats any more, and
// changes that everybody has seen.
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { recordAudit, systemActor } from "../audit/record.js";
import { removeOldChanges, renumberForeignChanges } from "../changes/keep.js";
import { limits } from "../config.js";
import type { Database, Statement } from "../db/database.js";
import { forgetIdleReader } from "../embeddings/feed.js";
import { forgetOldAnswers } from "../idempotency/requests.js";
import { deleteEverything } from "../sessions/delete-everything.js";
import * as sql from "./sql.js";

/** What one sweep removed. */
export interface Swept {
  /** Sessions past their expires_at. */
  expired: number;
  /** Sessions past the retention of their model. */
  rested: number;
  /** Kept answers to repeated requests. */
  answers: number;
  /** Changes of the change log. */
  changes: number;
}

/** How the sessions of one list are found, and how one of them is locked if it is still due. */
interface Due {
  find: (passOver: bigint[]) => Promise<{ id: bigint }[]>;
  lock: Statement<{ tenant_id: string }>;
  /** What follows the session's id in the values of lock. */
  lockValues: unknown[];
  /** Which field made it due, for the audit log. */
  field: string;
}

/**
 * The sweeps of one server process. Any number of servers may sweep at once: a session is removed in
 * a transaction that holds its row, and one that another holds is left for later.
 */
export class Sweeper {
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  /** @param everyMs how long to wait between two sweeps, about, in milliseconds; 0 for no sweeps */
  constructor(
    readonly db: Database,
    readonly logger: Logger,
    readonly everyMs: number,
  ) {}

  /** Begins to work in the background. */
  start(): void {
    if (this.everyMs > 0) this.#running = this.#run(this.#stopping.signal);
  }

  /** Ends the work in the background; what is half removed is there again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /**
   * Removes all that is due now.
   *
   * @param now the server's clock
   */
  async sweep(now: Date, signal: AbortSignal): Promise<Swept> {
    await renumberForeignChanges(this.db, signal);
    const expired = await this.#removeDue(
      {
        find: (passOver) =>
          this.db.query(sql.findExpired, [now, passOver, limits.sweepBatch], signal),
        lock: sql.lockExpired,
        lockValues: [now],
        field: "expires_at",
      },
      signal,
    );
    let rested = 0;
    for (const policy of await this.db.query(sql.findRetentions, [], signal)) {
      rested += await this.#removeRested(policy, now, signal);
    }
    const ago = (ms: number) => new Date(now.getTime() - ms);
    const answers = await forgetOldAnswers(this.db, ago(limits.keptAnswersMs), signal);
    await forgetIdleReader(this.db, ago(limits.idleReaderMs), signal);
    const changes = await removeOldChanges(this.db, ago(limits.keptChangesMs), signal);
    return { expired, rested, answers, changes };
  }

  #removeRested(
    { tenant_id: tenant, model_id: model, retention_ms: retention }: sql.RetentionRow,
    now: Date,
    signal: AbortSignal,
  ): Promise<number> {
    const since = new Date(now.getTime() - Number(retention));
    return this.#removeDue(
      {
        find: (passOver) =>
          this.db.query(
            sql.findRested,
            [tenant, model, since.getTime(), since, passOver, limits.sweepBatch],
            signal,
          ),
        lock: sql.lockRested,
        lockValues: [since.getTime(), since],
        field: "retention",
      },
      signal,
    );
  }

  // Returns how many sessions were removed here.
  async #removeDue(due: Due, signal: AbortSignal): Promise<number> {
    const passOver: bigint[] = [];
    let removed = 0;
    let found: { id: bigint }[];
    do {
      found = await due.find(passOver);
      for (const { id } of found) {
        signal.throwIfAborted();
        if (await this.#removeOne(id, due, signal)) removed++;
        else passOver.push(id);
      }
    } while (found.length === limits.sweepBatch && passOver.length < limits.sweepBatch);
    return removed;
  }

  // False when it is not due any more, when another holds it, and when it cannot be removed.
  async #removeOne(
    conversationId: bigint,
    { lock, lockValues, field }: Due,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await this.db.transaction(async (transaction) => {
        const [session] = await transaction.query(lock, [conversationId, ...lockValues]);
        if (!session) return false;
        await deleteEverything(transaction, conversationId, new Date());
        await recordAudit(transaction, systemActor(session.tenant_id), {
          rpc: "ExpireSession",
          conversationId,
          fields: [field],
        });
        return true;
      }, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const fields = { conversation_id: conversationId, err: causeOf(error) };
      this.logger.warn(fields, "a session that has expired cannot be removed");
      return false;
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // Servers that were started together part company.
      const pause = this.everyMs * (0.5 + Math.random());
      await sleep(pause, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      try {
        const swept = await this.sweep(new Date(), signal);
        if (swept.expired + swept.rested + swept.answers + swept.changes > 0)
          this.logger.info({ ...swept }, "swept");
      } catch (error) {
        if (!signal.aborted) this.logger.warn({ err: causeOf(error) }, "the sweep was cut short");
      }
    }
  }
}

// What Postgres said, which the log shows without the values that it quotes.
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause ? error.cause : error;
}
