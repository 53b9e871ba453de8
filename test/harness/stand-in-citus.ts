// Citus without Citus: tables with the names and columns of its catalog say that the sessions are
// distributed. What the server then asks, any Postgres answers.
export const SHARDS = 4;
export const NODES = 2;

/** Equal ranges of all hashes on the nodes in turn, as create_distributed_table() makes them. */
export const STAND_IN = `
  CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod "char");
  INSERT INTO pg_dist_partition VALUES ('conversations', 'h'), ('models', 'n');
  CREATE TABLE pg_dist_shard
    (logicalrelid regclass, shardid bigint, shardminvalue text, shardmaxvalue text);
  INSERT INTO pg_dist_shard
  SELECT 'conversations', 102008 + n, (-2147483648 + n * width)::text,
         (-2147483648 + (n + 1) * width - 1)::text
    FROM generate_series(0, ${SHARDS} - 1) AS n, (SELECT 4294967296 / ${SHARDS} AS width) AS w;
  CREATE TABLE pg_dist_placement (shardid bigint, groupid int);
  INSERT INTO pg_dist_placement SELECT shardid, 1 + shardid % ${NODES} FROM pg_dist_shard`;
