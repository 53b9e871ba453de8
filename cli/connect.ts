// Opens the client for one command and says in plain words why a call failed.
import { AgentStoreClient, AgentStoreError } from "../client/index.js";
import { CliError, exitCodes, UsageError } from "./errors.js";
import type { StoreOptions } from "./options.js";

/**
 * Runs a command's work with a client, which is closed afterwards.
 * @throws UsageError when the url or the token is malformed
 * @throws CliError for every error of the store, with what to do about it
 */
export async function withStore(
  options: StoreOptions,
  work: (store: AgentStoreClient) => Promise<void>,
): Promise<void> {
  const store = connect(options);
  try {
    await work(store);
  } catch (error) {
    throw error instanceof AgentStoreError ? explain(error, store.address) : error;
  } finally {
    store.close();
  }
}

function connect({ url, token }: StoreOptions): AgentStoreClient {
  try {
    return new AgentStoreClient({ ...(url && { url }), ...(token && { token }) });
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message);
    throw error;
  }
}

/** Turns an error of a call into what a person reads. */
export function explain(error: AgentStoreError, address: string): CliError {
  switch (error.reason) {
    case "SESSION_NOT_FOUND":
      return new CliError(
        `session ${error.metadata["conversation_id"] ?? ""} is not there`,
        "`agentstore sessions` lists those that are.",
      );
    case "UNAUTHENTICATED":
      return new CliError(
        `the server at ${address} does not accept the token`,
        "Set AGENTSTORE_TOKEN to a token that its operator has given out.",
      );
    case "PERMISSION_DENIED":
      return new CliError(
        `the server at ${address} does not take the token for an operator's`,
        "Set AGENTSTORE_TOKEN to a token that the server's token file marks with admin.",
      );
    case "DATABASE_UNAVAILABLE":
    case "SHUTTING_DOWN":
    case "OVERLOADED":
      return new CliError(error.message, "Try again in a moment.");
    case "INTERNAL":
      return new CliError(error.message, "Give the incident id to the server's operator.");
  }
  if (error.code === "UNAVAILABLE") {
    return new CliError(
      `no server can be reached at ${address}`,
      "Start one with `agentstore serve` (in the repository: `npm start`), or name another one " +
        "with --url or AGENTSTORE_URL.",
    );
  }
  if (error.code === "DEADLINE_EXCEEDED") {
    return new CliError(
      `the server at ${address} did not answer in time`,
      "Try again, or allow more time: --url agentstore://HOST:PORT?timeout=120000",
    );
  }
  if (error.code === "CANCELLED") {
    return new CliError("interrupted", "", exitCodes.interrupted);
  }
  return new CliError(error.message);
}
