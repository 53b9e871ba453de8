// The one place where Postgres' and the driver's errors become public ones.
import pg from "pg";
import { databaseUnavailable, RpcError, tooLong, writeConflict } from "./rpc-error.js";

const SOCKET_ERRORS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

// pg gives these no code.
const CONNECTION_LOST =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|The server does not support|timeout expired)/;
const POOL_TIMEOUT = "timeout exceeded when trying to connect";

/**
 * Translates an error of a query or of the pool; null when it is none that has
 * a meaning for callers.
 */
export function fromPostgresError(error: unknown): RpcError | null {
  if (error instanceof RpcError) return error;
  if (!(error instanceof Error)) return null;
  // From AbortSignal.timeout.
  if (error.name === "TimeoutError") return tooLong(error);
  if (error instanceof pg.DatabaseError) return fromSqlState(error);
  if (error.message === POOL_TIMEOUT)
    return overloaded("no database connection became free", error);
  const code = "code" in error ? String(error.code) : "";
  if (SOCKET_ERRORS.has(code) || CONNECTION_LOST.test(error.message)) {
    return databaseUnavailable(error);
  }
  return null;
}

/** Says that the server takes no more work for the moment. */
export function overloaded(what: string, cause?: unknown, limit?: number): RpcError {
  return new RpcError("OVERLOADED", `${what}; repeat the call a little later`, {
    retryAfterMs: 250,
    ...(limit === undefined ? {} : { metadata: { limit: String(limit) } }),
    cause,
  });
}

function fromSqlState(error: pg.DatabaseError): RpcError | null {
  const state = error.code ?? "";
  switch (state) {
    case "40001": // serialization_failure
    case "40P01": // deadlock_detected
    case "55P03": // lock_not_available
      return writeConflict(error);
    case "57014": // query_canceled, by a statement_timeout: our own cancels never get here
      return new RpcError("DEADLINE_EXCEEDED", "the database's statement_timeout ended the call", {
        cause: error,
      });
    case "25P03": // idle_in_transaction_session_timeout: this server stood still
    case "25006": // read_only_sql_transaction: a standby, after a failover
    case "57P01": // admin_shutdown
    case "57P02": // crash_shutdown
    case "57P03": // cannot_connect_now
    case "57P05": // idle_session_timeout
      return databaseUnavailable(error);
    case "53300": // too_many_connections
      return overloaded("the database has no free connection", error);
    case "23502": // not_null_violation
    case "23503": // foreign_key_violation
    case "23505": // unique_violation
    case "23514": // check_violation
    case "42501": // insufficient_privilege
      return schemaConflict(error);
  }
  if (state.startsWith("08")) return databaseUnavailable(error);
  if (state.startsWith("53")) {
    return new RpcError("STORAGE_EXHAUSTED", "the database is out of disk or memory", {
      cause: error,
    });
  }
  return null;
}

function schemaConflict(error: pg.DatabaseError): RpcError {
  const metadata: Record<string, string> = {};
  if (error.table) metadata.table = error.table;
  if (error.column) metadata.column = error.column;
  if (error.constraint) metadata.constraint = error.constraint;
  const where = Object.entries(metadata).map(([kind, name]) => `${kind} ${name}`);
  return new RpcError(
    "SCHEMA_CONFLICT",
    `the database has a rule of its own that refuses this write (${where.join(", ") || error.code}); ` +
      "an operator must give the column a default, grant the privilege or drop the constraint",
    { metadata, cause: error },
  );
}
