// A connection of pg that can hand out rows as the bytes that Postgres sent.
import { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import pg from "pg";
import { type OnRow, RowSplitter } from "./row-splitter.js";

// What pg's typings leave out.
interface Connection {
  stream: Duplex;
  attachListeners(stream: Duplex | EventEmitter): void;
}
interface QueryInternals extends pg.Submittable {
  handleRowDescription(message: unknown): void;
  handleCommandComplete(message: unknown, connection: unknown): void;
  handleError(error: Error, connection: unknown): void;
}
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
    const attach = connection.attachListeners.bind(connection);
    // Called with the socket, or with the TLS stream over it.
    connection.attachListeners = (socket) => {
      const parsed = new EventEmitter();
      attach(parsed);
      const splitter = new RowSplitter((bytes) => parsed.emit("data", bytes));
      this.#splitter = splitter;
      socket.on("data", (chunk: Buffer) => splitter.push(chunk));
      socket.on("end", () => parsed.emit("end"));
    };
  }

  /**
   * Runs a statement whose rows arrive in Postgres' binary format.
   *
   * @throws what onRow throws, once the statement has ended
   */
  queryRows(config: pg.QueryConfig, onRow: OnRow): Promise<void> {
    return new Promise((resolve, reject) => {
      let failure: Error | undefined;
      const take: OnRow = (bytes, start, end) => {
        if (failure !== undefined) return;
        try {
          onRow(bytes, start, end);
        } catch (error) {
          failure = error as Error;
        }
      };
      const done: Done = (error) => {
        const reason = failure ?? error;
        if (reason) reject(reason);
        else resolve();
      };
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

  #direct(taker: OnRow | undefined): void {
    if (this.#splitter) this.#splitter.onRow = taker;
  }
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
