-- The tables of sessions and messages: made where they are not there, adopted in place where they
-- are. A database with tables `models`, `conversations` and `conversation_messages` keeps every row
-- and every further column. docs/decisions/0002-adopting-existing-tables.md says what becomes of
-- what.
--
--   1. helpers, dropped again at the end
--   2. columns of existing tables: missing ones added, others converted to their type
--   3. the tables themselves, for a database that has none of them (this is the shape to read)
--   4. existing rows: missing parents, seq, counters
--   5. constraints that only hold after 4
--
-- All in one transaction: a failure leaves the database as it was.

SET CONSTRAINTS ALL IMMEDIATE;
-- Rows that a policy hides would be left out silently; with this they are an error instead.
SET LOCAL row_security = off;

------------------------------------------------------------------------------ 1. helpers

-- Statements that restore at the end what had to be put aside.
CREATE TABLE agentstore_afterwards (number int GENERATED ALWAYS AS IDENTITY, statement text);

-- Conversations that messages belong to and that are not there.
CREATE TABLE agentstore_orphans (
  id bigint, model_id text, created_at timestamptz, updated_at timestamptz
);

-- Milliseconds as a time; NULL for what is none (before the year 1 or after the year 9999).
CREATE FUNCTION agentstore_time(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN ms BETWEEN -62135596800000 AND 253402300799999
    THEN to_timestamp(ms / 1000.0) END
$$;

-- A number as a time: milliseconds, or seconds where milliseconds would lie before March 1973.
CREATE FUNCTION agentstore_time_of_number(value numeric) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
  SELECT to_timestamp(CASE WHEN abs(value) >= 100000000000 THEN value / 1000 ELSE value END)
$$;

CREATE FUNCTION agentstore_integer(value numeric) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF value <> trunc(value) THEN
    RAISE EXCEPTION 'not an integer';
  END IF;
  RETURN value::bigint;
END $$;

-- Metadata is an object; any other JSON value becomes its member `value`.
CREATE FUNCTION agentstore_object(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE jsonb_typeof(value)
    WHEN 'null' THEN NULL
    WHEN 'object' THEN value
    ELSE CASE WHEN value IS NOT NULL THEN jsonb_build_object('value', value) END
  END
$$;

CREATE FUNCTION agentstore_tags(value jsonb) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  CASE jsonb_typeof(value)
    WHEN 'array' THEN
      RETURN ARRAY(SELECT tag FROM jsonb_array_elements_text(value) WITH ORDINALITY AS t (tag, n)
                   WHERE tag IS NOT NULL ORDER BY n);
    WHEN 'string' THEN RETURN ARRAY[value #>> '{}'];
    WHEN 'object' THEN RAISE EXCEPTION 'an object is no list of tags';
    ELSE RETURN CASE WHEN value <> 'null' THEN ARRAY[value #>> '{}'] END;
  END CASE;
END $$;

-- Text is a JSON array, a Postgres array, or a list with commas.
CREATE FUNCTION agentstore_tags(value text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN CASE
    WHEN value ~ '^\s*$' THEN '{}'
    WHEN value ~ '^\s*\[' THEN agentstore_tags(value::jsonb)
    WHEN value ~ '^\s*\{' THEN array_remove(value::text[], NULL)
    ELSE regexp_split_to_array(btrim(value), '\s*,\s*')
  END;
END $$;

-- Tool calls as this service keeps them ({id, name, arguments}) from that form or from OpenAI's
-- ({id, function: {name, arguments}}). Arguments stay as they were written.
CREATE FUNCTION agentstore_tool_calls(value json) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  result json;
  nameless boolean;
BEGIN
  IF value IS NULL OR json_typeof(value) = 'null' THEN
    RETURN NULL;
  END IF;
  SELECT bool_or(f ->> 'name' IS NULL), json_agg(json_build_object(
           'id', coalesce(call ->> 'id', ''),
           'name', f ->> 'name',
           'arguments', CASE coalesce(json_typeof(f -> 'arguments'), 'null')
             WHEN 'null' THEN ''
             WHEN 'string' THEN f ->> 'arguments'
             ELSE (f -> 'arguments')::text END
         ) ORDER BY n)
    INTO nameless, result
    FROM json_array_elements(value) WITH ORDINALITY AS t (call, n),
         LATERAL (SELECT coalesce(call -> 'function', call)) AS u (f);
  IF nameless THEN
    RAISE EXCEPTION 'a tool call has no name';
  END IF;
  RETURN result;
END $$;

-- The expression that turns a column's values into another type, or NULL where none keeps them.
CREATE FUNCTION agentstore_conversion(tab regclass, col text, source oid, target text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  base pg_type;
  v text := format('%I', col);
BEGIN
  SELECT * INTO base FROM pg_type WHERE oid = source;
  WHILE base.typtype = 'd' LOOP
    SELECT * INTO base FROM pg_type WHERE oid = base.typbasetype;
  END LOOP;
  IF target = 'json' AND col = 'tool_calls' THEN
    RETURN CASE WHEN base.typname IN ('json', 'jsonb')
      THEN format('agentstore_tool_calls(%s::json)', v)
      WHEN base.typcategory = 'S'
      THEN format('agentstore_tool_calls(nullif(btrim(%s::text), '''')::json)', v) END;
  END IF;
  IF target = 'jsonb' THEN
    RETURN CASE WHEN base.typname IN ('json', 'jsonb', 'hstore')
      THEN format('agentstore_object(%s::jsonb)', v)
      WHEN base.typcategory = 'S'
      THEN format('agentstore_object(nullif(btrim(%s::text), '''')::jsonb)', v) END;
  END IF;
  IF base.oid = target::regtype AND target <> 'text[]' THEN
    RETURN v || '::' || target;
  END IF;
  RETURN CASE target
    WHEN 'text' THEN CASE
      WHEN base.typname IN ('json', 'jsonb') AND col = 'payload' THEN v || '::text'
      WHEN base.typname IN ('json', 'jsonb') THEN format('(%s #>> ''{}'')', v)
      WHEN base.typname = 'uuid' OR base.typcategory IN ('S', 'E', 'N', 'B', 'D', 'I', 'T')
      THEN v || '::text' END
    WHEN 'bigint' THEN CASE
      WHEN base.typname IN ('int2', 'int4') THEN v || '::bigint'
      WHEN base.typname IN ('numeric', 'float4', 'float8')
      THEN format('agentstore_integer(%s::numeric)', v)
      WHEN base.typcategory = 'S' THEN format('nullif(btrim(%s::text), '''')::bigint', v) END
    WHEN 'timestamptz' THEN CASE
      -- A timestamp without a zone is read in the zone of this session, which is the database's.
      WHEN base.typname IN ('timestamp', 'date') THEN v || '::timestamptz'
      WHEN base.typname IN ('int4', 'int8', 'numeric', 'float4', 'float8')
      THEN format('agentstore_time_of_number(%s::numeric)', v)
      WHEN base.typcategory = 'S' THEN format('nullif(btrim(%s::text), '''')::timestamptz', v) END
    WHEN 'text[]' THEN CASE
      WHEN base.typcategory = 'A' THEN format('array_remove(%s::text[], NULL)', v)
      WHEN base.typname IN ('json', 'jsonb') THEN format('agentstore_tags(%s::jsonb)', v)
      WHEN base.typcategory = 'S' THEN format('agentstore_tags(%s::text)', v) END
  END;
END $$;

-- Lets a sequence go on after the highest id.
CREATE FUNCTION agentstore_continue(tab regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  sequence regclass;
  behind boolean;
  highest bigint;
BEGIN
  SELECT d.refobjid INTO sequence
    FROM pg_attribute a
    JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                    AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
   WHERE a.attrelid = tab AND a.attname = 'id';
  sequence := coalesce(sequence, pg_get_serial_sequence(tab::text, 'id')::regclass);
  EXECUTE format('SELECT max(id) FROM %s', tab) INTO highest;
  IF sequence IS NULL OR coalesce(highest, 0) < 1 THEN
    RETURN;
  END IF;
  EXECUTE format('SELECT last_value < $1 OR (last_value = $1 AND NOT is_called) FROM %s', sequence)
    INTO behind USING highest;
  IF behind THEN
    PERFORM setval(sequence, highest);
  END IF;
END $$;

------------------------------------------------------------------------------ 2. columns

DO $$
DECLARE
  tab regclass;
  item record;
  shape record;
  have record;
  changes text[];
  value text;
  expression text;
  differs boolean;
  known text[];
BEGIN
  -- The tables: locked, so that nobody writes meanwhile, and their triggers off, because this is
  -- no change that they are to see.
  FOR item IN
    SELECT c.oid::regclass AS name, c.relkind,
           EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)) AS family
      FROM unnest(ARRAY['models', 'conversations', 'conversation_messages']) AS t (name)
      JOIN pg_class c ON c.oid = to_regclass(t.name)
  LOOP
    IF item.relkind <> 'r' OR item.family THEN
      RAISE EXCEPTION '% is not an ordinary table (it is a view, partitioned or inherits), so it cannot be adopted', item.name
        USING HINT = 'Rename it, or use another database or schema.';
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', item.name);
    INSERT INTO agentstore_afterwards (statement)
    SELECT format('ALTER TABLE %s ENABLE %s TRIGGER %I', item.name,
                  CASE tgenabled WHEN 'R' THEN 'REPLICA' WHEN 'A' THEN 'ALWAYS' ELSE '' END, tgname)
      FROM pg_trigger WHERE tgrelid = item.name AND NOT tgisinternal AND tgenabled <> 'D';
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', item.name);
  END LOOP;

  -- The role may be checked against fewer values than this service writes.
  tab := to_regclass('conversation_messages');
  FOR item IN
    SELECT conname, pg_get_constraintdef(c.oid) AS definition
      FROM pg_constraint c
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'role'
     WHERE c.conrelid = tab AND c.contype = 'c' AND a.attnum = ANY (c.conkey)
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', tab, item.conname);
    RAISE INFO '%: the constraint % makes place for one that allows all roles: %',
      tab, item.conname, item.definition;
  END LOOP;

  -- Indexes with a condition on a role that is an enum or a domain do not survive its conversion.
  FOR item IN
    SELECT i.indexrelid::regclass AS name, pg_get_indexdef(i.indexrelid) AS definition,
           format_type(a.atttypid, NULL) AS type
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid AND t.typtype IN ('e', 'd')
      JOIN pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
                      AND d.classid = 'pg_class'::regclass
      JOIN pg_index i ON i.indexrelid = d.objid
     WHERE a.attrelid = tab AND a.attname = 'role'
       AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL)
  LOOP
    INSERT INTO agentstore_afterwards (statement)
    VALUES (replace(item.definition, '::' || item.type, '::text'));
    EXECUTE format('DROP INDEX %s', item.name);
  END LOOP;

  FOR tab IN
    SELECT c.oid FROM unnest(ARRAY['models', 'conversations', 'conversation_messages']) AS t (name)
      JOIN pg_class c ON c.oid = to_regclass(t.name)
  LOOP
    changes := '{}';
    known := '{}';
    FOR shape IN
      -- name, type, default, what NULL becomes; `needed` ones have to be there, `own` ones have a
      -- meaning that no column of another origin has
      SELECT * FROM (VALUES
        ('models', 'id', 'text', NULL, NULL, 'needed'),
        ('models', 'created_at', 'timestamptz', 'now()', 'now()', ''),
        ('conversations', 'id', 'bigint', NULL, NULL, 'needed'),
        ('conversations', 'model_id', 'text', NULL, NULL, 'needed'),
        ('conversations', 'tenant_id', 'text', '''default''', '''default''', ''),
        ('conversations', 'title', 'text', '''''', '''''', ''),
        ('conversations', 'owner_id', 'text', '''''', '''''', ''),
        ('conversations', 'tags', 'text[]', '''{}''', '''{}''', ''),
        ('conversations', 'metadata', 'jsonb', NULL, NULL, ''),
        ('conversations', 'created_at', 'timestamptz', 'now()', NULL, ''),
        ('conversations', 'updated_at', 'timestamptz', 'now()', NULL, ''),
        ('conversations', 'expires_at', 'timestamptz', NULL, NULL, ''),
        ('conversations', 'last_seq', 'bigint', '0', '0', ''),
        ('conversations', 'revision', 'bigint', '1', '1', 'own'),
        ('conversations', 'message_count', 'bigint', '0', '0', ''),
        ('conversations', 'user_messages', 'bigint', '0', '0', ''),
        ('conversations', 'assistant_messages', 'bigint', '0', '0', ''),
        ('conversations', 'system_messages', 'bigint', '0', '0', ''),
        ('conversations', 'tool_messages', 'bigint', '0', '0', ''),
        ('conversations', 'total_characters', 'bigint', '0', '0', ''),
        ('conversations', 'input_tokens', 'bigint', '0', '0', ''),
        ('conversations', 'output_tokens', 'bigint', '0', '0', ''),
        ('conversations', 'cached_tokens', 'bigint', '0', '0', ''),
        ('conversations', 'reasoning_tokens', 'bigint', '0', '0', ''),
        ('conversations', 'cost_micros', 'bigint', '0', '0', ''),
        ('conversations', 'first_message_ms', 'bigint', NULL, NULL, ''),
        ('conversations', 'last_message_ms', 'bigint', NULL, NULL, ''),
        ('conversations', 'first_message', 'text', NULL, NULL, ''),
        ('conversation_messages', 'id', 'bigint', NULL, NULL, 'needed'),
        ('conversation_messages', 'conversation_id', 'bigint', NULL, NULL, 'needed'),
        ('conversation_messages', 'seq', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'role', 'text', NULL, '''''', 'needed'),
        ('conversation_messages', 'content', 'text', NULL, '''''', 'needed'),
        ('conversation_messages', 'ts_ms', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'name', 'text', NULL, NULL, ''),
        ('conversation_messages', 'tool_calls', 'json', NULL, NULL, ''),
        ('conversation_messages', 'tool_call_id', 'text', NULL, NULL, ''),
        ('conversation_messages', 'payload', 'text', NULL, NULL, ''),
        ('conversation_messages', 'payload_type', 'text', NULL, NULL, ''),
        ('conversation_messages', 'metadata', 'jsonb', NULL, NULL, ''),
        ('conversation_messages', 'input_tokens', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'output_tokens', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'cached_tokens', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'reasoning_tokens', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'cost_micros', 'bigint', NULL, NULL, ''),
        ('conversation_messages', 'revision', 'bigint', NULL, NULL, 'own'),
        ('conversation_messages', 'exact', 'bytea', NULL, NULL, 'own')
      ) AS s (place, col, type, fallback, blank, kind)
      WHERE to_regclass(s.place) = tab
    LOOP
      known := known || shape.col;
      value := format('%I', shape.col);
      SELECT a.attnum, a.atttypid, a.attnotnull, a.attidentity, a.attgenerated, a.atthasdef,
             format_type(a.atttypid, a.atttypmod) AS type
        INTO have
        FROM pg_attribute a
       WHERE a.attrelid = tab AND a.attname = shape.col AND NOT a.attisdropped;

      IF NOT FOUND AND shape.kind = 'needed' THEN
        RAISE EXCEPTION 'the table % has no column %, so it cannot be adopted', tab, shape.col
          USING HINT = 'Rename the table, or use another database or schema.';
      END IF;
      IF NOT FOUND AND shape.blank IS NULL THEN
        -- Existing rows are filled in later; the default is for the rows to come.
        changes := changes || format('ADD COLUMN %s %s', value, shape.type);
      ELSIF NOT FOUND THEN
        changes := changes || format('ADD COLUMN %s %s NOT NULL DEFAULT %s', value, shape.type,
                                     shape.fallback);
        CONTINUE;
      ELSE
        expression := agentstore_conversion(tab, shape.col, have.atttypid, shape.type);
        IF expression IS NULL OR have.attgenerated <> '' OR shape.kind = 'own' THEN
          RAISE EXCEPTION 'the column %.% (%) cannot be adopted: it is in the place of AgentStore''s own column of that name, a % with another meaning or form',
            tab, shape.col, have.type || CASE WHEN have.attgenerated <> '' THEN ', generated' ELSE '' END, shape.type
            USING HINT = format('Rename it and migrate again: ALTER TABLE %s RENAME COLUMN %s TO %I;',
                                tab, value, 'old_' || shape.col);
        END IF;
        IF shape.blank IS NOT NULL THEN
          expression := format('coalesce(%s, %s)', expression, shape.blank);
        END IF;
        BEGIN
          IF have.atttypid = shape.type::regtype AND shape.type NOT IN ('json', 'jsonb', 'text[]') THEN
            EXECUTE format('SELECT %L AND EXISTS (SELECT FROM %s WHERE %s IS NULL)',
                           shape.blank IS NOT NULL AND NOT have.attnotnull, tab, value) INTO differs;
          ELSE
            -- Converts every value once, so that one that does not convert is reported by column.
            EXECUTE format('SELECT bool_or((%s)::text IS DISTINCT FROM %s::text) FROM %s',
                           expression, value, tab) INTO differs;
          END IF;
        EXCEPTION WHEN OTHERS THEN
          RAISE EXCEPTION 'the column %.% (%) cannot be adopted: it has a value that does not convert to %',
            tab, shape.col, have.type, shape.type
            USING HINT = format('Correct the values, or rename the column and migrate again: ALTER TABLE %s RENAME COLUMN %s TO %I;',
                                tab, value, 'old_' || shape.col);
        END;
        IF have.atttypid <> shape.type::regtype OR differs THEN
          IF have.atthasdef AND shape.col <> 'id' THEN
            changes := changes || format('ALTER COLUMN %s DROP DEFAULT', value);
            have.atthasdef := false;
          END IF;
          changes := changes || format('ALTER COLUMN %s TYPE %s USING %s', value, shape.type,
                                       expression);
        END IF;
      END IF;
      IF shape.fallback IS NOT NULL AND have.atthasdef IS NOT TRUE THEN
        changes := changes || format('ALTER COLUMN %s SET DEFAULT %s', value, shape.fallback);
      END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE %s %s', tab, array_to_string(changes, ', '));
    FOR item IN
      SELECT attname AS col FROM pg_attribute
       WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
         AND attidentity = '' AND attname <> ALL (known)
    LOOP
      RAISE INFO '%: the column % must have a value that AgentStore does not know; give it a default to let AgentStore add rows',
        tab, item.col;
    END LOOP;
  END LOOP;

  -- Ids: unique on the tables that others refer to, and given by a sequence.
  FOR item IN
    SELECT c.oid::regclass AS name, t.name AS plain, a.attnum, a.atthasdef, a.attidentity,
           c.relnamespace::regnamespace AS schema
      FROM unnest(ARRAY['models', 'conversations', 'conversation_messages']) AS t (name)
      JOIN pg_class c ON c.oid = to_regclass(t.name)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'
  LOOP
    IF item.plain <> 'conversation_messages' AND NOT EXISTS (
      SELECT FROM pg_index WHERE indrelid = item.name AND indisunique AND indisvalid
         AND indimmediate AND indpred IS NULL AND indexprs IS NULL
         AND indnkeyatts = 1 AND indkey[0] = item.attnum)
    THEN
      EXECUTE format('ALTER TABLE %s ADD %s (id)', item.name, CASE WHEN EXISTS (
        SELECT FROM pg_index WHERE indrelid = item.name AND indisprimary)
        THEN 'UNIQUE' ELSE 'PRIMARY KEY' END);
    END IF;
    IF item.plain = 'models' THEN
      CONTINUE;
    END IF;
    IF NOT item.atthasdef AND item.attidentity = '' THEN
      value := format('%s.%I', item.schema, item.plain || '_id_seq');
      IF to_regclass(value) IS NOT NULL THEN
        value := format('%s.%I', item.schema, item.plain || '_id_agentstore_seq');
      END IF;
      EXECUTE format('CREATE SEQUENCE %s OWNED BY %s.id', value, item.name);
      EXECUTE format('ALTER TABLE %s ALTER COLUMN id SET DEFAULT nextval(%L)', item.name, value);
    END IF;
    -- The sequence of a `serial` column ends with the range of integer.
    SELECT format('ALTER SEQUENCE %s AS bigint', s.seqrelid::regclass) INTO value
      FROM pg_sequence s
     WHERE s.seqrelid = pg_get_serial_sequence(item.name::text, 'id')::regclass
       AND s.seqtypid <> 'bigint'::regtype AND item.attidentity = '';
    IF FOUND THEN
      EXECUTE value;
    END IF;
    PERFORM agentstore_continue(item.name);
  END LOOP;
END $$;

------------------------------------------------------------------------------- 3. tables

CREATE TABLE IF NOT EXISTS models (
  id text PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS conversations (
  id bigserial PRIMARY KEY,
  model_id text NOT NULL REFERENCES models (id),
  tenant_id text NOT NULL DEFAULT 'default',
  title text NOT NULL DEFAULT '',
  owner_id text NOT NULL DEFAULT '',
  tags text[] NOT NULL DEFAULT '{}',
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_seq bigint NOT NULL DEFAULT 0,
  revision bigint NOT NULL DEFAULT 1,
  message_count bigint NOT NULL DEFAULT 0,
  user_messages bigint NOT NULL DEFAULT 0,
  assistant_messages bigint NOT NULL DEFAULT 0,
  system_messages bigint NOT NULL DEFAULT 0,
  tool_messages bigint NOT NULL DEFAULT 0,
  total_characters bigint NOT NULL DEFAULT 0,
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cached_tokens bigint NOT NULL DEFAULT 0,
  reasoning_tokens bigint NOT NULL DEFAULT 0,
  cost_micros bigint NOT NULL DEFAULT 0,
  first_message_ms bigint,
  last_message_ms bigint,
  first_message text
);

CREATE INDEX conversations_by_activity
  ON conversations (
    tenant_id, model_id, (coalesce(last_message_ms, -9223372036854775808)) DESC, id DESC
  );

CREATE TABLE IF NOT EXISTS conversation_messages (
  id bigserial NOT NULL,
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  seq bigint NOT NULL,
  role text NOT NULL CONSTRAINT conversation_messages_role
    CHECK (role IN ('system', 'user', 'assistant', 'tool')),
  content text NOT NULL,
  ts_ms bigint,
  name text,
  tool_calls json,
  tool_call_id text,
  payload text,
  payload_type text,
  metadata jsonb,
  input_tokens bigint,
  output_tokens bigint,
  cached_tokens bigint,
  reasoning_tokens bigint,
  cost_micros bigint,
  revision bigint NOT NULL,
  exact bytea,
  PRIMARY KEY (conversation_id, seq)
);

-- What writes to a session answered, by their request_id.
CREATE TABLE conversation_requests (
  conversation_id bigint NOT NULL,
  request_id text NOT NULL,
  tenant_id text NOT NULL,
  fingerprint bytea NOT NULL,
  first_seq bigint,
  last_seq bigint,
  answer bytea,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (conversation_id, request_id)
);

-- What CreateSession answered, by tenant and request_id.
CREATE TABLE tenant_requests (
  tenant_id text NOT NULL,
  request_id text NOT NULL,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, request_id)
);

--------------------------------------------------------------------------------- 4. rows

-- Parents that are missing. A message without a conversation gets one, a conversation without a
-- model gets the model that its messages name, else `unknown`.
DO $$
DECLARE
  model text;
  strays bigint;
  home bigint;
BEGIN
  SELECT count(*) INTO strays FROM conversation_messages WHERE conversation_id IS NULL;

  SELECT format('%I::text', attname) INTO model
    FROM pg_attribute
   WHERE attrelid = 'conversation_messages'::regclass AND attname IN ('model_id', 'model')
     AND NOT attisdropped
   ORDER BY attname DESC LIMIT 1;
  EXECUTE format(
    'INSERT INTO agentstore_orphans
     SELECT conversation_id,
            coalesce((array_agg(%1$s ORDER BY ts_ms, id) FILTER (WHERE %1$s <> ''''))[1], ''unknown''),
            coalesce(agentstore_time(min(ts_ms)), now()), coalesce(agentstore_time(max(ts_ms)), now())
       FROM conversation_messages m
      WHERE conversation_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM conversations c WHERE c.id = m.conversation_id)
      GROUP BY conversation_id', coalesce(model, 'NULL::text'));

  BEGIN
    INSERT INTO models (id)
    SELECT coalesce(model_id, 'unknown') FROM conversations
    UNION SELECT model_id FROM agentstore_orphans
    UNION SELECT 'unknown' WHERE strays > 0
    EXCEPT SELECT id FROM models;
    IF FOUND THEN
      RAISE INFO 'models: registered those that conversations name and that were missing';
    END IF;
  EXCEPTION WHEN integrity_constraint_violation THEN
    RAISE INFO 'models: conversations name models that are not there, and the table does not allow to add them: %', SQLERRM;
  END;

  BEGIN
    INSERT INTO conversations (id, model_id, created_at, updated_at)
    OVERRIDING SYSTEM VALUE
    SELECT id, model_id, created_at, updated_at FROM agentstore_orphans;
    IF FOUND THEN
      RAISE INFO 'conversations: added those that messages belong to and that were missing';
      PERFORM agentstore_continue('conversations');
    END IF;
    IF strays > 0 THEN
      INSERT INTO conversations (model_id, title)
      VALUES ('unknown', 'Messages without a session') RETURNING id INTO home;
      UPDATE conversation_messages SET conversation_id = home WHERE conversation_id IS NULL;
      RAISE INFO 'conversations: added % for % messages without a session', home, strays;
    END IF;
  EXCEPTION WHEN integrity_constraint_violation THEN
    RAISE EXCEPTION 'there are messages without a conversation, and none can be added for them: %', SQLERRM
      USING HINT = 'Insert the conversations that conversation_messages.conversation_id names and that are missing, then migrate again.';
  END;
END $$;

-- The order of a session is (ts_ms, id); messages without a time come last. A seq that a message
-- has already must be the same one.
UPDATE conversation_messages m
   SET seq = o.seq, revision = 1 + o.seq
  FROM (
    SELECT ctid AS place, row_number() OVER (PARTITION BY conversation_id ORDER BY ts_ms, id) AS seq
      FROM conversation_messages
  ) o
 WHERE o.place = m.ctid AND (m.seq = o.seq OR m.seq IS NULL);

DO $$
BEGIN
  IF EXISTS (SELECT FROM conversation_messages WHERE revision IS NULL) THEN
    RAISE EXCEPTION 'the column conversation_messages.seq cannot be adopted: it does not number the messages of each conversation 1, 2, 3 … by (ts_ms, id)'
      USING HINT = 'Rename it and migrate again: ALTER TABLE conversation_messages RENAME COLUMN seq TO old_seq;';
  END IF;
END $$;

-- The counters, as they are after appending these messages one by one. Sums of tokens and costs
-- that a session had before are kept where its messages have none.
UPDATE conversations c
   SET model_id = coalesce(c.model_id, 'unknown'),
       created_at = coalesce(c.created_at, agentstore_time(m.first_ms), now()),
       updated_at = coalesce(c.updated_at,
         greatest(c.created_at, agentstore_time(m.last_ms)), now()),
       last_seq = coalesce(m.messages, 0),
       revision = 1 + coalesce(m.messages, 0),
       message_count = coalesce(m.messages, 0),
       user_messages = coalesce(m.users, 0),
       assistant_messages = coalesce(m.assistants, 0),
       system_messages = coalesce(m.systems, 0),
       tool_messages = coalesce(m.tools, 0),
       total_characters = coalesce(m.characters, 0),
       input_tokens = greatest(c.input_tokens, m.input_tokens),
       output_tokens = greatest(c.output_tokens, m.output_tokens),
       cached_tokens = greatest(c.cached_tokens, m.cached_tokens),
       reasoning_tokens = greatest(c.reasoning_tokens, m.reasoning_tokens),
       cost_micros = greatest(c.cost_micros, m.cost_micros),
       first_message_ms = m.first_ms,
       last_message_ms = m.last_ms,
       first_message = m.first_message
  FROM conversations same
  LEFT JOIN (
    SELECT conversation_id, count(*) AS messages,
           count(*) FILTER (WHERE role = 'user') AS users,
           count(*) FILTER (WHERE role = 'assistant') AS assistants,
           count(*) FILTER (WHERE role = 'system') AS systems,
           count(*) FILTER (WHERE role = 'tool') AS tools,
           sum(char_length(content)) AS characters,
           sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
           sum(cached_tokens) AS cached_tokens, sum(reasoning_tokens) AS reasoning_tokens,
           sum(cost_micros) AS cost_micros,
           min(ts_ms) AS first_ms, max(ts_ms) AS last_ms,
           max(left(content, 200)) FILTER (WHERE seq = 1) AS first_message
      FROM conversation_messages
     GROUP BY conversation_id
  ) m ON m.conversation_id = same.id
 WHERE same.id = c.id;

-------------------------------------------------------------------------- 5. constraints

ALTER TABLE models
  ALTER COLUMN created_at SET NOT NULL;

ALTER TABLE conversations
  ALTER COLUMN model_id SET NOT NULL,
  ALTER COLUMN tenant_id SET NOT NULL,
  ALTER COLUMN title SET NOT NULL,
  ALTER COLUMN owner_id SET NOT NULL,
  ALTER COLUMN tags SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL,
  ALTER COLUMN updated_at SET NOT NULL,
  ALTER COLUMN last_seq SET NOT NULL,
  ALTER COLUMN revision SET NOT NULL,
  ALTER COLUMN message_count SET NOT NULL,
  ALTER COLUMN user_messages SET NOT NULL,
  ALTER COLUMN assistant_messages SET NOT NULL,
  ALTER COLUMN system_messages SET NOT NULL,
  ALTER COLUMN tool_messages SET NOT NULL,
  ALTER COLUMN total_characters SET NOT NULL,
  ALTER COLUMN input_tokens SET NOT NULL,
  ALTER COLUMN output_tokens SET NOT NULL,
  ALTER COLUMN cached_tokens SET NOT NULL,
  ALTER COLUMN reasoning_tokens SET NOT NULL,
  ALTER COLUMN cost_micros SET NOT NULL;

ALTER TABLE conversation_messages
  ALTER COLUMN id SET NOT NULL,
  ALTER COLUMN conversation_id SET NOT NULL,
  ALTER COLUMN seq SET NOT NULL,
  ALTER COLUMN role SET NOT NULL,
  ALTER COLUMN content SET NOT NULL,
  ALTER COLUMN revision SET NOT NULL;

DO $$
DECLARE
  messages regclass := 'conversation_messages';
  key record;
  referrer record;
  referrers text[] := '{}';
  step record;
BEGIN
  -- The key becomes (conversation_id, seq). What refers to the old key needs it to stay unique.
  SELECT c.conname, c.conindid, pg_get_constraintdef(c.oid) AS definition INTO key
    FROM pg_constraint c
   WHERE c.conrelid = messages AND c.contype = 'p';
  IF key.definition IS DISTINCT FROM 'PRIMARY KEY (conversation_id, seq)' THEN
    IF key.conname IS NOT NULL THEN
      FOR referrer IN
        SELECT conrelid::regclass AS tab, conname, pg_get_constraintdef(oid) AS definition
          FROM pg_constraint
         WHERE contype = 'f' AND confrelid = messages AND conindid = key.conindid
           AND conparentid = 0
      LOOP
        referrers := referrers || format('ALTER TABLE %s ADD CONSTRAINT %I %s',
          referrer.tab, referrer.conname, referrer.definition);
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', referrer.tab, referrer.conname);
      END LOOP;
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', messages, key.conname);
      IF cardinality(referrers) > 0 THEN
        EXECUTE format('ALTER TABLE %s ADD %s', messages,
          replace(key.definition, 'PRIMARY KEY', 'UNIQUE'));
      END IF;
    END IF;
    EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (conversation_id, seq)', messages);
    FOR step IN SELECT unnest(referrers) AS statement LOOP
      EXECUTE step.statement;
    END LOOP;
  END IF;

  IF NOT EXISTS (SELECT FROM pg_constraint
                  WHERE conrelid = messages AND conname = 'conversation_messages_role') THEN
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT conversation_messages_role
      CHECK (role IN (''system'', ''user'', ''assistant'', ''tool'')) %s', messages,
      -- Messages with another role stay; new ones have one of these.
      CASE WHEN EXISTS (SELECT FROM conversation_messages
                         WHERE role NOT IN ('system', 'user', 'assistant', 'tool'))
        THEN 'NOT VALID' ELSE '' END);
  END IF;

  IF NOT EXISTS (
    SELECT FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid
     WHERE c.contype = 'f' AND c.conrelid = messages AND c.confrelid = 'conversations'::regclass
       AND a.attname = 'conversation_id' AND c.conkey = ARRAY[a.attnum])
  THEN
    ALTER TABLE conversation_messages ADD FOREIGN KEY (conversation_id) REFERENCES conversations (id);
  END IF;
  IF NOT EXISTS (
    SELECT FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid
     WHERE c.contype = 'f' AND c.conrelid = 'conversations'::regclass
       AND c.confrelid = 'models'::regclass
       AND a.attname = 'model_id' AND c.conkey = ARRAY[a.attnum])
  THEN
    EXECUTE format('ALTER TABLE conversations ADD FOREIGN KEY (model_id) REFERENCES models (id) %s',
      -- Conversations whose model could not be registered stay; new ones have a registered one.
      CASE WHEN EXISTS (SELECT model_id FROM conversations EXCEPT SELECT id FROM models)
        THEN 'NOT VALID' ELSE '' END);
  END IF;

  FOR step IN SELECT statement FROM agentstore_afterwards ORDER BY number LOOP
    EXECUTE step.statement;
  END LOOP;
END $$;

DROP TABLE agentstore_afterwards, agentstore_orphans;
DROP FUNCTION agentstore_time, agentstore_time_of_number, agentstore_integer, agentstore_object,
  agentstore_tags(jsonb), agentstore_tags(text), agentstore_tool_calls, agentstore_conversion,
  agentstore_continue;
