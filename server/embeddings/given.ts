// Vectors that callers give with their messages.
import type { Embedding } from "../../gen/agentstore/v1/messages.js";
import type { Queries } from "../db/database.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import * as sql from "./sql.js";
import { vectorFault, vectorValues } from "./vector.js";

/** A vector that a caller has given with a message. */
export interface GivenEmbedding {
  conversationId: bigint;
  seq: bigint;
  tenant: string;
  embedding: Embedding;
}

/** Adds what is wrong with a vector to the checks. */
export function checkEmbedding(
  field: string,
  { model, values }: Embedding,
  check: FieldChecks,
  limits: Limits,
): void {
  check.requiredText(`${field}.model`, model, limits.idCharacters);
  checkVector(`${field}.values`, values, check);
}

/** Adds what is wrong with a vector's numbers to the checks. */
export function checkVector(field: string, values: number[], check: FieldChecks): void {
  const fault = vectorFault(values);
  if (!fault) return;
  const { place, description } = fault;
  check.fail(place === undefined ? field : `${field}[${place}]`, description);
}

/** Stores what was given, in the transaction that appends the messages. */
export async function putGiven(queries: Queries, given: readonly GivenEmbedding[]): Promise<void> {
  await Promise.all(
    given.map(({ conversationId, seq, tenant, embedding: { model, values } }) =>
      queries.query(sql.insertGiven, [conversationId, seq, model, tenant, ...vectorValues(values)]),
    ),
  );
}
