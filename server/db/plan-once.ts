// Has Postgres plan the statements of a transaction once for each connection, and so that their plans
// stay right.
import { type Statement, statement } from "./database.js";

/**
 * For a transaction whose statements find their rows by primary keys, and nothing else: until its
 * end, Postgres keeps one plan for each statement, which walks indexes however small a table is.
 * Otherwise it plans most of them anew each time, which takes about as long as to run them, and a
 * plan to keep that was made for a small table would read all of it when it has grown.
 */
export const planOnce: Statement<never> = statement(
  "plan_once",
  `SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
          set_config('enable_seqscan', 'off', true),
          set_config('enable_hashjoin', 'off', true),
          set_config('enable_mergejoin', 'off', true)`,
);
