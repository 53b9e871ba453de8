// The sealer: gives the events of committed changes their places in their tenant's chain.
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { limits } from "../config.js";
import type { Database, Statement, Transaction } from "../db/database.js";
import { chainHash, EMPTY_CHAIN } from "./hash.js";
import * as sql from "./sql.js";

/**
 * The sealer of one server. Any number of servers may seal: each tenant has one sealer at a time,
 * and what one of them leaves behind the next one takes up.
 */
export class AuditSealer {
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  /** @param db for the work in the background */
  constructor(
    readonly db: Database,
    readonly logger: Logger,
  ) {}

  /** Seals all tenants' events in the background from now on. */
  start(): void {
    this.#running = this.#run(this.#stopping.signal);
  }

  /** Ends the work in the background, after the batch under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /**
   * Seals what is committed of a tenant's events, after whoever is sealing them, so that a read
   * that follows finds them.
   *
   * @param db the caller's, as it is the caller who waits
   */
  async sealTenant(db: Database, tenant: string, signal: AbortSignal): Promise<void> {
    while ((await this.#sealBatch(db, tenant, sql.lockHead, signal)) === limits.auditBatch);
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      try {
        await this.#sealAll(signal);
        failing = false;
      } catch (error) {
        if (!failing && !signal.aborted) this.logger.warn({ err: error }, "the audit log waits");
        failing = true;
      }
      await sleep(limits.auditSealMs, undefined, { signal }).catch(() => {});
    }
  }

  async #sealAll(signal: AbortSignal): Promise<void> {
    const tenants = await this.db.query(sql.tenantsToSeal, [limits.auditInboxSample], signal);
    for (const { tenant_id: tenant } of tenants) {
      while ((await this.#sealBatch(this.db, tenant, sql.tryHead, signal)) === limits.auditBatch);
    }
  }

  // Returns how many events were sealed.
  async #sealBatch(
    db: Database,
    tenant: string,
    lock: Statement<sql.HeadRow>,
    signal: AbortSignal,
  ): Promise<number> {
    const { count, position, chain } = await db.transaction(
      (transaction) => sealInbox(transaction, tenant, lock),
      signal,
    );
    if (count > 0) {
      // A log that is kept elsewhere is what shows a chain that was written anew.
      const end = { position, chain: chain.toString("hex") };
      this.logger.info({ tenant, events: count, ...end }, "audit");
    }
    return count;
  }
}

async function sealInbox(
  transaction: Transaction,
  tenant: string,
  lock: Statement<sql.HeadRow>,
): Promise<{ count: number; position: bigint; chain: Buffer }> {
  let [head] = await transaction.query(lock, [tenant]);
  if (!head) {
    await transaction.query(sql.insertHead, [tenant, EMPTY_CHAIN]);
    [head] = await transaction.query(lock, [tenant]);
  }
  // Another sealer has its turn.
  if (!head) return { count: 0, position: 0n, chain: EMPTY_CHAIN };
  const inbox = await transaction.query(sql.readInbox, [tenant, limits.auditBatch]);
  let { position, chain } = head;
  // Later than all that was sealed, and than the events themselves, whatever the servers' clocks say.
  const times = inbox.map(({ at_us }) => at_us);
  const sealedAtUs = greatest([BigInt(Date.now()) * 1000n, head.sealed_at_us, ...times]);
  const positions: bigint[] = [];
  const chains: Buffer[] = [];
  for (const { hash } of inbox) {
    position++;
    chain = chainHash(chain, position, sealedAtUs, hash);
    positions.push(position);
    chains.push(chain);
  }
  if (inbox.length > 0) {
    const ids = inbox.map(({ id }) => id);
    await transaction.commitWith(() =>
      Promise.all([
        transaction.query(sql.moveEvents, [tenant, ids, positions, chains, sealedAtUs]),
        transaction.query(sql.advanceHead, [tenant, position, sealedAtUs, chain]),
      ]),
    );
  }
  return { count: inbox.length, position, chain };
}

function greatest(values: bigint[]): bigint {
  return values.reduce((most, value) => (value > most ? value : most));
}
