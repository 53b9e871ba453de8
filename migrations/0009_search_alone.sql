-- To look a text up takes some milliseconds; to start other processes for it takes longer than that. The
-- planner, who is told that agentstore_grams() is dear, does so all the same, unless a function forbids it.
ALTER FUNCTION agentstore_gram_query(text, text, text) PARALLEL UNSAFE;
ALTER FUNCTION agentstore_scope_query(text, text) PARALLEL UNSAFE;
