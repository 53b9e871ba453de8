// The bounded pool: named statements, transactions, cancellation that reaches Postgres.
import pg from "pg";
import { limits } from "../config.js";
import { fromPostgresError, overloaded } from "../errors/postgres.js";
import { breakConnection, CANCEL_PATIENCE_MS, cancelQuery } from "./cancel.js";
import type { DatabaseTraits } from "./inspect.js";
import { Places } from "./places.js";
import type { OnRow } from "./row-splitter.js";
import { RowsClient } from "./rows-client.js";
import { ShardMap } from "./shards.js";

/** A prepared statement; Row is the shape of what it returns. */
export interface Statement<Row> {
  readonly name: string;
  readonly text: string;
  /** Whether Database.onSignal is to hear when a transaction with it has committed. */
  readonly signals?: boolean;
  /** Exists for the type alone. */
  readonly row?: Row;
}

/** Names a statement; the name is unique in the server, as Postgres prepares it under it. */
export function statement<Row extends object>(name: string, text: string): Statement<Row> {
  return { name, text };
}

/** As statement(), for one whose commit others want to hear of. */
export function signalling<Row extends object>(name: string, text: string): Statement<Row> {
  return { name, text, signals: true };
}

/** A statement with its parameters, and what takes its rows. */
export interface Step {
  readonly statement: Statement<object>;
  /** In Postgres' binary format. */
  readonly values: (Buffer | null)[];
  readonly onRow: OnRow;
}

/**
 * Makes a statement that Postgres plans anew at each execution, for its very values. For those whose
 * best plan depends on how rare a value is.
 */
export function plannedEachTime<Row extends object>(text: string): Statement<Row> {
  return { name: "", text };
}

/** Runs statements on one connection, in the order of the calls. */
export interface Queries {
  /**
   * Returns the rows of a statement; values fill $1, $2 … Statements that are
   * not awaited one by one travel together: the connection is in pipeline mode.
   */
  query<Row>(statement: Statement<Row>, values: unknown[]): Promise<Row[]>;

  /** As query(), but hands out each row as bytes; see Database.queryRows(). */
  queryRows(statement: Statement<object>, values: unknown[], onRow: OnRow): Promise<void>;
}

/** A transaction that is open. */
export interface Transaction extends Queries {
  /**
   * Commits together with the statements that send() asks for, in one round trip,
   * and returns what send() returns. From here on nothing stops the commit but a
   * statement that fails. The transaction's last step.
   */
  commitWith<T>(send: () => Promise<T>): Promise<T>;
}

/** A transaction that is open for longer than a call usually lasts. Whoever opens it closes it. */
export interface LongTransaction extends Queries {
  /** Commits. */
  commit(): Promise<void>;
  /** Gives the connection back, after a roll-back where nothing was committed. */
  close(): Promise<void>;
}

/** What a long transaction is for: to read one snapshot, or to write. */
export type LongTransactionKind = "snapshot" | "write";

type Parser = (text: string) => unknown;

// Postgres' bigint is a bigint here; all else is what pg makes of it.
const parsers = new Map<number, Parser>([[pg.types.builtins.INT8, BigInt]]);
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format): Parser =>
    parsers.get(oid) ?? (pg.types.getTypeParser(oid, format) as Parser),
};

/** What Database tells its owner. */
export interface DatabaseOptions extends Partial<DatabaseTraits> {
  /** Connections at the most. */
  poolSize: number;
  /** What the connections are called in Postgres; `agentstore` unless given. */
  name?: string;
  /** Hears of idle connections that broke. */
  onIdleError?: (error: Error) => void;
  /** Hears when a transaction with a signalling statement has committed. */
  onSignal?: () => void;
}

const ON_DISK = "synchronous_commit TO on";

/**
 * How long a connection that nobody uses is kept. A new one costs a call some milliseconds, as it has
 * prepared nothing; what stands between here and Postgres forgets silent ones after four minutes or more.
 */
const IDLE_MS = 180_000;

/** The service's Postgres. All methods throw RpcError for what callers can act on. */
export class Database {
  readonly #pool: pg.Pool;
  readonly #clients = new Set<pg.PoolClient>();
  readonly #places: Places;
  readonly #how: StatementsOptions;
  /** On Citus: which sessions share a node. */
  readonly shards: ShardMap | undefined;
  /**
   * Whether together() works here, and planOnce is of use: not behind a pooler, which keeps no
   * prepared statements and no settings, nor on Citus, where each statement names one session.
   */
  readonly takesSteps: boolean;
  readonly #longMost: number;
  #long = 0;

  constructor(
    readonly url: string,
    {
      poolSize,
      name = "agentstore",
      onIdleError = () => {},
      onSignal = () => {},
      pooled = false,
      asynchronous = false,
      shards,
    }: DatabaseOptions,
  ) {
    this.shards = shards && new ShardMap(shards);
    this.takesSteps = !pooled && !shards;
    this.#places = new Places({
      count: poolSize,
      waiting: limits.waitingCalls,
      patienceMs: limits.acquireMs,
    });
    this.#how = { named: !pooled, begin: pooled ? beginPooled(asynchronous) : BEGIN, onSignal };
    this.#pool = new pg.Pool({
      connectionString: url,
      max: poolSize,
      connectionTimeoutMillis: limits.acquireMs,
      idleTimeoutMillis: IDLE_MS,
      application_name: name,
      keepAlive: true,
      // The locks of a server whose machine is gone without a word end with this, not by a
      // keepalive after hours. Poolers refuse connections that ask for it.
      ...(pooled ? {} : { idle_in_transaction_session_timeout: limits.callMs }),
      types,
      pipeline: true,
      Client: RowsClient,
    });
    // Most of the pool stays for calls that are soon over.
    this.#longMost = Math.max(1, Math.floor(poolSize / 4));
    this.#pool.on("error", onIdleError);
    this.#pool.on("connect", (client) => {
      this.#clients.add(client);
      // Between its readiness and its first lease nobody else listens, and an error that nobody
      // hears ends the process. Whatever is hit by it rejects by itself.
      client.on("error", () => {});
      client.once("end", () => this.#clients.delete(client));
    });
    if (asynchronous && !pooled) {
      // Queries of a connection run in the order of the calls, so this one is the first.
      this.#pool.on("connect", (client) => {
        client.query(`SET ${ON_DISK}`).catch(onIdleError);
      });
    }
  }

  /**
   * Runs one statement and returns its rows. An abort of the signal stops it in
   * Postgres and rejects with the signal's reason.
   */
  query<Row>(statement: Statement<Row>, values: unknown[], signal: AbortSignal): Promise<Row[]> {
    return this.#lease(signal, (lease) => lease.query(statement, values));
  }

  /**
   * As query(), but hands out each row as the bytes that Postgres sent, in its
   * binary format, before it returns.
   *
   * @throws what onRow throws too
   */
  queryRows(
    statement: Statement<object>,
    values: unknown[],
    onRow: OnRow,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#lease(signal, (lease) => lease.queryRows(statement, values, onRow));
  }

  /** Both, for who reads no matter in which transaction. */
  queries(signal: AbortSignal): Queries {
    return {
      query: (statement, values) => this.query(statement, values, signal),
      queryRows: (statement, values, onRow) => this.queryRows(statement, values, onRow, signal),
    };
  }

  /**
   * Runs statements as one transaction in one round trip: none sees the rows of another before it
   * is sent. Any that fails undoes all. On a connection that has not run them before, they run once
   * with NULL for every parameter first, which must do nothing.
   *
   * @throws the error of the statement that failed: an RpcError whose cause is pg's, or pg's
   */
  together(steps: Step[], signal: AbortSignal): Promise<void> {
    return this.#lease(signal, (lease) => lease.together(steps));
  }

  /**
   * Runs reads in one round trip, each with one plan that the connection keeps, whatever the values:
   * for those whose best plan is always the same. Planning them took longer than running them.
   *
   * @throws what an onRow throws too
   */
  readTogether(steps: Step[], signal: AbortSignal): Promise<void> {
    return this.#lease(signal, async (lease) => {
      if (this.takesSteps) return await lease.together([planOnce, ...steps]);
      // All must have ended before the connection is somebody else's.
      const reads = steps.map((step) => lease.queryRows(step.statement, step.values, step.onRow));
      await Promise.allSettled(reads);
      await Promise.all(reads);
    });
  }

  /**
   * Runs work in one transaction (READ COMMITTED) and commits. What work throws
   * rolls back. An abort of the signal stops the statement that runs and rolls
   * back, until the commit has begun: from then on the call tells how it ended.
   */
  transaction<T>(work: (transaction: Transaction) => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#lease(signal, async (lease) => {
      try {
        lease.begin();
        const result = await work(lease);
        if (!lease.committed) {
          signal.throwIfAborted();
          await lease.commitWith(() => Promise.resolve());
        }
        return result;
      } catch (error) {
        await lease.rollBack();
        throw error;
      }
    });
  }

  /**
   * Opens a transaction that holds its connection until it is closed. A quarter of the pool's
   * connections may be held in this way. An abort of the signal stops the statement that runs.
   *
   * @throws OVERLOADED when as many are open as may be
   */
  async openLong(kind: LongTransactionKind, signal: AbortSignal): Promise<LongTransaction> {
    if (this.#long >= this.#longMost) {
      throw overloaded("too many exports and imports run", undefined, this.#longMost);
    }
    this.#long++;
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    return await new Promise<LongTransaction>((resolve, reject) => {
      const leased = this.#lease(signal, async (lease) => {
        lease.begin(kind === "snapshot" ? BEGIN_SNAPSHOT : undefined);
        const translate = async <T>(work: Promise<T>): Promise<T> => {
          try {
            return await work;
          } catch (error) {
            if (signal.aborted) throw signal.reason;
            throw fromPostgresError(error) ?? error;
          }
        };
        resolve({
          query: (statement, values) => translate(lease.query(statement, values)),
          queryRows: (statement, values, onRow) =>
            translate(lease.queryRows(statement, values, onRow)),
          commit: () => translate(lease.commitWith(() => Promise.resolve())),
          close: async () => {
            end();
            await leased;
          },
        });
        await ended;
        if (!lease.committed) await lease.rollBack();
      }).finally(() => {
        this.#long--;
      });
      leased.catch(reject);
    });
  }

  /** Closes the pool when the connections in use have been given back. */
  async close(): Promise<void> {
    // Connections that do not answer the goodbye must not keep the process.
    const impatience = setTimeout(() => {
      for (const client of this.#clients) breakConnection(client);
    }, CANCEL_PATIENCE_MS);
    impatience.unref();
    await this.#pool.end();
  }

  async #lease<T>(signal: AbortSignal, work: (lease: Lease) => Promise<T>): Promise<T> {
    await this.#places.take(signal);
    let lease: Lease | undefined;
    try {
      const client = (await this.#pool.connect()) as pg.PoolClient & RowsClient;
      lease = new Lease(client, signal, this.#how);
      return await work(lease);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw fromPostgresError(error) ?? error;
    } finally {
      await lease?.end();
      this.#places.giveBack();
    }
  }
}

/** How a lease sends statements. */
interface StatementsOptions {
  /** Whether Postgres keeps them under their names for the next time. */
  named: boolean;
  begin: Statement<never>;
  onSignal: () => void;
}

const BEGIN = statement<never>("begin", "BEGIN ISOLATION LEVEL READ COMMITTED");

// What a connection of our own has been told once, each transaction of a borrowed one is told.
function beginPooled(asynchronous: boolean): Statement<never> {
  const settings = [`idle_in_transaction_session_timeout TO ${limits.callMs}`];
  if (asynchronous) settings.push(ON_DISK);
  const text = [BEGIN.text, ...settings.map((setting) => `SET LOCAL ${setting}`)].join("; ");
  return statement("begin_pooled", text);
}

/**
 * For a transaction whose statements find their rows by primary keys, and nothing else: until its
 * end, Postgres keeps one plan for each statement, which walks indexes however small a table is.
 * Otherwise it plans most of them anew each time, which takes about as long as to run them, and a
 * plan to keep that was made for a small table would read all of it when it has grown.
 */
export const planOnce: Step = {
  statement: statement<never>(
    "plan_once",
    `SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
            set_config('enable_seqscan', 'off', true),
            set_config('enable_hashjoin', 'off', true),
            set_config('enable_mergejoin', 'off', true)`,
  ),
  values: [],
  onRow: () => {},
};

const BEGIN_SNAPSHOT = statement<never>(
  "begin_snapshot",
  "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
);

// in_failed_sql_transaction
function isFollowUp(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "25P02";
}

// A pooled connection in the hands of one call.
class Lease implements Transaction {
  #running = 0;
  #failure: unknown;
  #committing = false;
  committed = false;
  #begun: Promise<void> = Promise.resolve();
  #cancelled: Promise<void> | undefined;
  #discard = false;
  #signals = false;
  #impatience: NodeJS.Timeout | undefined;

  constructor(
    readonly client: pg.PoolClient & RowsClient,
    readonly signal: AbortSignal,
    readonly how: StatementsOptions,
  ) {
    client.on("error", this.#onError);
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  readonly #onError = () => {
    this.#discard = true;
  };

  readonly #onAbort = () => {
    this.#cancelled = this.#begun.then(async () => {
      // Also with a commit on its way: a statement before it may be waiting, and what has begun to
      // commit no cancel request stops. Either way the answers say how it ended.
      if (this.#running > 0) {
        this.#discard = true;
        await cancelQuery(this.client);
      }
    });
    // A peer that has gone silent ends no query, and must not hold a place in the pool for ever. A
    // commit that is broken off here still happens in Postgres; it is only not told.
    this.#impatience = setTimeout(() => {
      this.#discard = true;
      breakConnection(this.client);
    }, CANCEL_PATIENCE_MS);
  };

  /** Opens a transaction; BEGIN travels with the first statement. */
  begin(how: Statement<never> = this.how.begin): void {
    // It must not be cancelled: the first statement would run without a transaction.
    this.#begun = this.query(how, []).then(
      () => {},
      () => {},
    );
  }

  async query<Row>(statement: Statement<Row>, values: unknown[]): Promise<Row[]> {
    const send = () => this.client.query(this.#config(statement, values));
    return (await this.#run(send)).rows as Row[];
  }

  queryRows(statement: Statement<object>, values: unknown[], onRow: OnRow): Promise<void> {
    return this.#run(() => this.client.queryRows(this.#config(statement, values), onRow));
  }

  #config({ name, text, signals }: Statement<unknown>, values: unknown[]): pg.QueryConfig {
    if (signals) this.#signals = true;
    return this.how.named ? { name, text, values } : { text, values };
  }

  async together(steps: Step[]): Promise<void> {
    await Promise.all(
      steps
        .filter(({ statement }) => !this.client.hasPrepared(statement.name))
        .map(({ statement, values }) =>
          this.queryRows(
            statement,
            values.map(() => null),
            () => {},
          ),
        ),
    );
    await this.#run(() => this.client.together(steps));
    if (steps.some(({ statement }) => statement.signals)) this.how.onSignal();
  }

  async #run<T>(send: () => Promise<T>): Promise<T> {
    if (!this.#committing) this.signal.throwIfAborted();
    this.#running++;
    this.client.gather();
    try {
      return await send();
    } catch (error) {
      this.#failure ??= error;
      // Of statements that travel together, those behind the one that failed only say that it did.
      throw isFollowUp(error) ? this.#failure : error;
    } finally {
      this.#running--;
    }
  }

  async commitWith<T>(send: () => Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    this.#committing = true;
    const results = send();
    const commit = this.client.query("COMMIT");
    // Where a statement has failed, its error says more than that of the commit.
    const [sent, { command }] = await Promise.allSettled([results, commit]).then(() =>
      Promise.all([results, commit]),
    );
    if (command !== "COMMIT") throw new Error("the transaction was not committed");
    this.committed = true;
    if (this.#signals) this.how.onSignal();
    return sent;
  }

  /** Ends the transaction, by ending the connection if need be. */
  async rollBack(): Promise<void> {
    if (this.#committing) return;
    if (this.signal.aborted) {
      this.#discard = true;
      return;
    }
    await this.client.query("ROLLBACK").catch(this.#onError);
  }

  /** Gives the connection back, or ends it when its state is not known. */
  async end(): Promise<void> {
    this.signal.removeEventListener("abort", this.#onAbort);
    clearTimeout(this.#impatience);
    // A cancel request on its way could hit the next caller's query.
    await this.#cancelled;
    this.client.off("error", this.#onError);
    this.client.release(this.#discard);
  }
}
