// The error of everything that keeps the embedded Postgres from running, worded for operators.

/** Why the embedded Postgres cannot run. The message says what is wrong and what to do. */
export class EmbeddedPostgresError extends Error {
  override readonly name: string = "EmbeddedPostgresError";
}

/** Another server owns the data directory. */
export class DataDirectoryInUseError extends EmbeddedPostgresError {
  override readonly name = "DataDirectoryInUseError";

  /**
   * @param dataDir the data directory
   * @param pid the process id of the server that owns it, where known
   */
  constructor(dataDir: string, pid: number | undefined) {
    const owner = pid === undefined ? "another server" : `another server (process ${pid})`;
    super(
      `The data directory ${dataDir} is in use by ${owner}. ` +
        "Stop that server, or give this one another data directory.",
    );
  }
}
