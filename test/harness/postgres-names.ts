// Names that the run's setup and the tests share.

/** The migrated database that test databases are copied from. */
export const TEMPLATE = "agentstore_template";

/** The connection string of another database of the same cluster. */
export function databaseUrl(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}
