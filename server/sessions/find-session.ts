// Finds sessions in a transaction of another slice.
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import type { Queries } from "../db/database.js";
import { toAgentSession } from "./session.js";
import * as sql from "./sql.js";

/** Finds a session of a tenant's; undefined when it is not there. */
export async function findSession(
  queries: Queries,
  tenant: string,
  id: bigint,
): Promise<AgentSession | undefined> {
  const [row] = await queries.query(sql.getSession, [id, tenant]);
  return row && toAgentSession(row);
}
