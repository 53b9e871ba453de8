// A connection of pg that can hand out rows as the bytes that Postgres sent.
import { EventEmitter } from "node:events";
import net from "node:net";
import type { Duplex } from "node:stream";
import pg from "pg";
import { present } from "../present.js";
import { areBinary, bindAndExecute } from "./bind-message.js";
import type { Step } from "./database.js";
import { type OnRow, RowSplitter } from "./row-splitter.js";

// What pg's typings leave out.
interface Connection {
  stream: Duplex;
  ssl: unknown;
  parsedStatements: Record<string, string>;
  sync(): void;
  attachListeners(stream: Duplex | EventEmitter): void;
}
interface QueryInternals extends pg.Submittable {
  name: string;
  values: unknown[];
  hasBeenParsed(connection: Connection): boolean;
  prepare(connection: Connection): void;
  handleRowDescription(message: unknown): void;
  handleCommandComplete(message: unknown, connection: unknown): void;
  handleError(error: Error, connection: unknown): void;
}
// As much as Node reads at a time.
const READ_BYTES = 64 * 1024;

type Done = (error: Error | null) => void;
const Query = pg.Query as unknown as new (
  config: pg.QueryConfig & { binary: boolean },
  callback: Done,
) => QueryInternals;

/** The client of a pool whose rows may be had as bytes. */
export class RowsClient extends pg.Client {
  #splitter: RowSplitter | undefined;
  #gathers = false;

  constructor(config?: pg.ClientConfig) {
    super(config);
    const connection = this.connection as unknown as Connection;
    // Over TLS the socket's bytes are not Postgres' messages.
    if (!connection.ssl) connection.stream = this.#socket();
    const attach = connection.attachListeners.bind(connection);
    // Called with the socket, or with the TLS stream over it.
    connection.attachListeners = (socket) => {
      const parsed = new EventEmitter();
      attach(parsed);
      const splitter = new RowSplitter((bytes) => parsed.emit("data", bytes));
      this.#splitter = splitter;
      // Not from a socket of ours, which has no such event.
      socket.on("data", (chunk: Buffer) => splitter.push(chunk));
      socket.on("end", () => parsed.emit("end"));
    };
  }

  // A socket that reads into the same memory again and again. With memory of its own for each read,
  // a stream of messages was one collection of all garbage after another.
  #socket(): net.Socket {
    const onread = {
      buffer: Buffer.allocUnsafe(READ_BYTES),
      callback: (count: number, bytes: Uint8Array) => {
        this.#splitter?.push(bytes.subarray(0, count) as Buffer);
        return true;
      },
    };
    // Node's typings know onread for sockets that are connected already.
    return new net.Socket({ onread } as net.SocketConstructorOpts);
  }

  /**
   * Runs a statement whose rows arrive in Postgres' binary format.
   *
   * @throws what onRow throws, once the statement has ended
   */
  queryRows(config: pg.QueryConfig, onRow: OnRow): Promise<void> {
    return new Promise((resolve, reject) => {
      const failures: Error[] = [];
      const done: Done = (error) => {
        const reason = failures[0] ?? error;
        if (reason) reject(reason);
        else resolve();
      };
      const take = catching(onRow, failures);
      this.query(new RowsQuery(config, done, (taker) => this.#direct(taker), take));
    });
  }

  /**
   * Sends what is asked of Postgres from here to the end of this turn of the event loop in one
   * write, not one for each statement.
   */
  gather(): void {
    if (this.#gathers) return;
    this.#gathers = true;
    const { stream } = this.connection as unknown as Connection;
    stream.cork();
    process.nextTick(() => {
      this.#gathers = false;
      stream.uncork();
    });
  }

  /** Whether this connection has run a prepared statement before. */
  hasPrepared(name: string): boolean {
    const { parsedStatements } = this.connection as unknown as Connection;
    return parsedStatements[name] !== undefined;
  }

  /**
   * Runs prepared statements with one Sync behind the last one, which makes them one transaction.
   *
   * @param steps statements that this connection has prepared
   * @throws the error of a statement; else what an onRow throws, though all is committed
   */
  together(steps: readonly Step[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const failures: Error[] = [];
      const done: Done = (error) => {
        const reason = error ?? failures[0];
        if (reason) reject(reason);
        else resolve();
      };
      const takers = steps.map(({ onRow }) => catching(onRow, failures));
      this.query(new StepsQuery(steps, takers, done, (taker) => this.#direct(taker)));
    });
  }

  #direct(taker: OnRow | undefined): void {
    if (this.#splitter) this.#splitter.onRow = taker;
  }
}

// What is thrown while rows arrive must not reach the socket.
function catching(onRow: OnRow, failures: Error[]): OnRow {
  return (bytes, start, end) => {
    if (failures.length > 0) return;
    try {
      onRow(bytes, start, end);
    } catch (error) {
      failures.push(error as Error);
    }
  };
}

// A Query of pg's, as its pipeline mode takes no other.
class RowsQuery extends Query {
  constructor(
    config: pg.QueryConfig,
    done: Done,
    readonly direct: (taker: OnRow | undefined) => void,
    readonly take: OnRow,
  ) {
    super({ ...config, binary: true }, done);
  }

  override prepare(connection: Connection): void {
    if (this.hasBeenParsed(connection) && areBinary(this.values)) {
      connection.stream.write(bindAndExecute(this.name, this.values));
      connection.sync();
    } else super.prepare(connection);
  }

  override handleRowDescription(): void {
    this.direct(this.take);
  }

  override handleCommandComplete(message: unknown, connection: unknown): void {
    this.direct(undefined);
    super.handleCommandComplete(message, connection);
  }

  override handleError(error: Error, connection: unknown): void {
    this.direct(undefined);
    super.handleError(error, connection);
  }
}

// Several statements that pg takes for one query.
class StepsQuery extends Query {
  #at = 0;

  constructor(
    readonly steps: readonly Step[],
    readonly takers: readonly OnRow[],
    done: Done,
    readonly direct: (taker: OnRow | undefined) => void,
  ) {
    const { name, text } = present(steps[0]).statement;
    super({ name, text, binary: true }, done);
  }

  override prepare(connection: Connection): void {
    for (const { statement, values } of this.steps) {
      connection.stream.write(bindAndExecute(statement.name, values));
    }
    connection.sync();
  }

  override handleRowDescription(): void {
    this.direct(this.takers[this.#at]);
  }

  override handleCommandComplete(): void {
    this.direct(undefined);
    this.#at++;
  }

  override handleError(error: Error, connection: unknown): void {
    this.direct(undefined);
    super.handleError(error, connection);
  }
}
