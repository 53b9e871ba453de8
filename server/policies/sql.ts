// The statements on models' policies.
import { statement } from "../db/database.js";

/** A policy as it is stored; null where nothing was set. */
export interface PolicyRow {
  retention_ms: bigint | null;
  every_messages: bigint | null;
  every_minutes: bigint | null;
  updated_at: Date;
}

const POLICY = "retention_ms, every_messages, every_minutes, updated_at";

export const getPolicy = statement<PolicyRow>(
  "get_model_policy",
  `SELECT ${POLICY} FROM model_policies WHERE tenant_id = $1 AND model_id = $2`,
);

/** $3 is the mask; what it does not name stays. */
export const updatePolicy = statement<PolicyRow>(
  "update_model_policy",
  `INSERT INTO model_policies AS p
     (tenant_id, model_id, retention_ms, every_messages, every_minutes, updated_at)
   VALUES ($1, $2, CASE WHEN 'retention' = ANY ($3::text[]) THEN $4::bigint END,
           CASE WHEN 'snapshot_policy' = ANY ($3) THEN $5::bigint END,
           CASE WHEN 'snapshot_policy' = ANY ($3) THEN $6::bigint END, $7)
   ON CONFLICT (tenant_id, model_id) DO UPDATE
      SET retention_ms = CASE WHEN 'retention' = ANY ($3)
                         THEN excluded.retention_ms ELSE p.retention_ms END,
          every_messages = CASE WHEN 'snapshot_policy' = ANY ($3)
                           THEN excluded.every_messages ELSE p.every_messages END,
          every_minutes = CASE WHEN 'snapshot_policy' = ANY ($3)
                          THEN excluded.every_minutes ELSE p.every_minutes END,
          updated_at = greatest(p.updated_at, excluded.updated_at)
   RETURNING ${POLICY}`,
);
