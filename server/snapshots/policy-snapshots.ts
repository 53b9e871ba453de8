// Takes the snapshots that policies ask for, behind the calls that make them due.
import type { Logger } from "pino";
import { recordAudit, systemActor } from "../audit/record.js";
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import { RpcError } from "../errors/rpc-error.js";
import { takeSnapshot } from "./snapshot.js";
import * as sql from "./sql.js";

/** The snapshots by policy of one server. Stores without policies pay for a glance at a clock. */
export class PolicySnapshots {
  readonly #db: Database;
  readonly #logger: Logger;
  readonly #stopped = new AbortController();
  /** Sessions that have changed and have not been looked at since. */
  readonly #changed = new Set<bigint>();
  /** Whether any policy is known to be in force; unknown at first. */
  #any = true;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;

  constructor(db: Database, logger: Logger) {
    this.#db = db;
    this.#logger = logger;
  }

  /** Hears that a session has changed, once that is committed. Returns at once. */
  changed(conversationId: bigint): void {
    const isOld = performance.now() - this.#lookedMs > limits.snapshotPoliciesMs;
    if ((!this.#any && !isOld) || this.#stopped.signal.aborted) return;
    if (this.#changed.size < limits.waitingAppends) this.#changed.add(conversationId);
    this.#start();
  }

  /** Hears that a policy was set through this server, so that it holds from the next change on. */
  policySet(): void {
    this.#any = true;
  }

  /** Takes no more snapshots, and waits for the one under way. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#changed.clear();
    await this.#running;
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // What has changed at the last moment.
      if (this.#changed.size > 0) this.#start();
    });
  }

  async #run(): Promise<void> {
    try {
      await this.#look();
      while (this.#any && this.#changed.size > 0) {
        const ids = [...this.#changed];
        this.#changed.clear();
        const due = await this.#db.query(sql.findDue, [ids, new Date()], this.#signal());
        for (const { id } of due) await this.#take(id);
      }
    } catch (error) {
      // A session that was due is so at its next change as well.
      if (!this.#stopped.signal.aborted) {
        this.#logger.warn({ err: error }, "a snapshot by policy could not be taken");
      }
    }
    this.#changed.clear();
  }

  // Other servers' callers set policies too.
  async #look(): Promise<void> {
    if (performance.now() - this.#lookedMs <= limits.snapshotPoliciesMs) return;
    this.#lookedMs = performance.now();
    const [found] = await this.#db.query(sql.anyPolicy, [], this.#signal());
    this.#any = found?.any ?? false;
  }

  // Whoever has the lock first takes it; for the others it is not due any more.
  async #take(id: bigint): Promise<void> {
    await this.#db.transaction(async (queries) => {
      const now = new Date();
      const [session] = await queries.query(sql.lockDue, [id, now]);
      if (!session) return;
      const actor = systemActor(session.tenant_id);
      const by = { name: "", byPolicy: true, by: actor.principal.name };
      try {
        await takeSnapshot(queries, session, by, now);
      } catch (error) {
        if (!(error instanceof RpcError && error.reason === "TOO_MANY_SNAPSHOTS")) throw error;
        // All were taken by hand. The policy tries again when the next one is due.
        await queries.query(sql.markSnapshot, [id, now]);
        return;
      }
      await recordAudit(queries, actor, { rpc: "CreateSnapshot", conversationId: id });
    }, this.#signal());
  }

  #signal(): AbortSignal {
    return AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(limits.callMs)]);
  }
}
