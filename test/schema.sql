CREATE SEQUENCE audit_inbox_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY audit_inbox.id;

CREATE SEQUENCE conversation_messages_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversation_messages.id;

CREATE SEQUENCE conversations_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversations.id;

CREATE SEQUENCE session_snapshots_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY session_snapshots.id;

CREATE TABLE agentstore_migrations (
  version integer NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT agentstore_migrations_pkey PRIMARY KEY (version)
);

CREATE TABLE audit_events (
  tenant_id text NOT NULL,
  position bigint NOT NULL,
  at timestamp with time zone NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  hash bytea NOT NULL,
  sealed_at timestamp with time zone NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, "position")
);

CREATE INDEX audit_events_by_conversation ON public.audit_events USING btree (tenant_id, conversation_id, "position") WHERE (conversation_id IS NOT NULL);

CREATE INDEX audit_events_by_principal ON public.audit_events USING btree (tenant_id, principal, "position");

CREATE INDEX audit_events_by_request ON public.audit_events USING btree (tenant_id, request_id, "position") WHERE (request_id <> ''::text);

CREATE INDEX audit_events_by_rpc ON public.audit_events USING btree (tenant_id, rpc, "position");

CREATE INDEX audit_events_by_sealed_at ON public.audit_events USING btree (tenant_id, sealed_at, "position");

CREATE TABLE audit_heads (
  tenant_id text NOT NULL,
  position bigint NOT NULL,
  sealed_at timestamp with time zone NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT audit_heads_pkey PRIMARY KEY (tenant_id)
);

CREATE TABLE audit_inbox (
  tenant_id text NOT NULL,
  id bigint NOT NULL DEFAULT nextval('audit_inbox_id_seq'::regclass),
  at timestamp with time zone NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  hash bytea NOT NULL,
  CONSTRAINT audit_inbox_pkey PRIMARY KEY (tenant_id, id)
);

CREATE TABLE change_log (
  one boolean NOT NULL DEFAULT true,
  kept_from xid8 NOT NULL,
  CONSTRAINT change_log_one_check CHECK (one),
  CONSTRAINT change_log_pkey PRIMARY KEY (one)
);

CREATE TABLE change_readers (
  name text NOT NULL,
  position pg_snapshot NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT change_readers_pkey PRIMARY KEY (name)
);

CREATE TABLE conversation_messages (
  id bigint NOT NULL DEFAULT nextval('conversation_messages_id_seq'::regclass),
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  role text NOT NULL,
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
  version bigint NOT NULL DEFAULT 1,
  change text NOT NULL DEFAULT 'appended'::text,
  edited_at timestamp with time zone,
  deleted_at timestamp with time zone,
  changed_by text NOT NULL DEFAULT ''::text,
  changed_at timestamp with time zone,
  CONSTRAINT conversation_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT conversation_messages_pkey PRIMARY KEY (conversation_id, seq),
  CONSTRAINT conversation_messages_role CHECK ((role = ANY (ARRAY['system'::text, 'user'::text, 'assistant'::text, 'tool'::text])))
);

CREATE INDEX conversation_messages_changed ON public.conversation_messages USING btree (conversation_id, revision) WHERE (version > 1);

CREATE INDEX conversation_messages_deleted ON public.conversation_messages USING btree (conversation_id, seq) WHERE (deleted_at IS NOT NULL);

CREATE TABLE conversation_requests (
  conversation_id bigint NOT NULL,
  request_id text NOT NULL,
  tenant_id text NOT NULL,
  fingerprint bytea NOT NULL,
  first_seq bigint,
  last_seq bigint,
  answer bytea,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT conversation_requests_pkey PRIMARY KEY (conversation_id, request_id)
);

CREATE INDEX conversation_requests_by_age ON public.conversation_requests USING btree (created_at);

CREATE INDEX conversation_requests_with_answer ON public.conversation_requests USING btree (tenant_id) WHERE (answer IS NOT NULL);

CREATE TABLE conversations (
  id bigint NOT NULL DEFAULT nextval('conversations_id_seq'::regclass),
  model_id text NOT NULL,
  tenant_id text NOT NULL DEFAULT 'default'::text,
  title text NOT NULL DEFAULT ''::text,
  owner_id text NOT NULL DEFAULT ''::text,
  tags text[] NOT NULL DEFAULT '{}'::text[],
  metadata jsonb,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone,
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
  first_message text,
  lease_token bigint NOT NULL DEFAULT 0,
  lease_holder text,
  lease_expires_at timestamp with time zone,
  parent_conversation_id bigint,
  parent_seq bigint,
  snapshot_every_messages bigint,
  snapshot_every_minutes bigint,
  snapshot_seq bigint NOT NULL DEFAULT 0,
  snapshot_at timestamp with time zone,
  CONSTRAINT conversations_model_id_fkey FOREIGN KEY (model_id) REFERENCES models(id),
  CONSTRAINT conversations_pkey PRIMARY KEY (id)
);

CREATE INDEX conversations_by_activity ON public.conversations USING btree (tenant_id, model_id, COALESCE(last_message_ms, '-9223372036854775808'::bigint) DESC, id DESC);

CREATE INDEX conversations_with_snapshot_policy ON public.conversations USING btree (id) WHERE (snapshot_every_messages IS NOT NULL);

CREATE TABLE embedding_models (
  model text NOT NULL,
  dimensions integer,
  after_conversation_id bigint NOT NULL DEFAULT 0,
  after_seq bigint NOT NULL DEFAULT 0,
  complete boolean NOT NULL DEFAULT false,
  error text,
  CONSTRAINT embedding_models_pkey PRIMARY KEY (model)
);

CREATE TABLE embedding_queue (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  tenant_id text NOT NULL,
  queued_at timestamp with time zone NOT NULL,
  due_at timestamp with time zone NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  error text,
  failed_at timestamp with time zone,
  CONSTRAINT embedding_queue_pkey PRIMARY KEY (conversation_id, seq)
);

CREATE INDEX embedding_queue_due ON public.embedding_queue USING btree (due_at) WHERE (failed_at IS NULL);

CREATE INDEX embedding_queue_failed ON public.embedding_queue USING btree (tenant_id, conversation_id, seq) WHERE (failed_at IS NOT NULL);

CREATE INDEX embedding_queue_waiting ON public.embedding_queue USING btree (tenant_id, queued_at) WHERE (failed_at IS NULL);

CREATE TABLE message_embeddings (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  model text NOT NULL,
  tenant_id text NOT NULL,
  dimensions integer NOT NULL,
  embedding real[] NOT NULL,
  code bytea NOT NULL,
  scale real NOT NULL,
  CONSTRAINT message_embeddings_pkey PRIMARY KEY (conversation_id, seq, model)
);

CREATE INDEX message_embeddings_space ON public.message_embeddings USING btree (tenant_id, model, dimensions);

CREATE TABLE message_search (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  id bigint NOT NULL,
  revision bigint NOT NULL,
  tenant_id text NOT NULL,
  model_id text NOT NULL,
  role text NOT NULL,
  ts_ms bigint NOT NULL,
  body text NOT NULL,
  long boolean NOT NULL,
  language text NOT NULL,
  words tsvector NOT NULL,
  size integer NOT NULL,
  CONSTRAINT message_search_pkey PRIMARY KEY (conversation_id, seq)
);

CREATE INDEX message_search_by_model ON public.message_search USING btree (tenant_id, model_id, ts_ms DESC, id DESC);

CREATE INDEX message_search_by_time ON public.message_search USING btree (tenant_id, ts_ms DESC, id DESC);

CREATE INDEX message_search_grams ON public.message_search USING gin (agentstore_grams(tenant_id, model_id, body));

CREATE INDEX message_search_long ON public.message_search USING btree (tenant_id, model_id) WHERE long;

CREATE INDEX message_search_words ON public.message_search USING gin (words);

CREATE TABLE message_versions (
  id bigint NOT NULL,
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  role text NOT NULL,
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
  version bigint NOT NULL,
  change text NOT NULL,
  edited_at timestamp with time zone,
  deleted_at timestamp with time zone,
  changed_by text NOT NULL,
  changed_at timestamp with time zone,
  CONSTRAINT message_versions_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT message_versions_pkey PRIMARY KEY (conversation_id, seq, version)
);

CREATE INDEX message_versions_by_revision ON public.message_versions USING btree (conversation_id, revision);

CREATE TABLE model_policies (
  tenant_id text NOT NULL,
  model_id text NOT NULL,
  retention_ms bigint,
  every_messages bigint,
  every_minutes bigint,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT model_policies_pkey PRIMARY KEY (tenant_id, model_id)
);

CREATE TABLE models (
  id text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT models_pkey PRIMARY KEY (id)
);

CREATE TABLE search_backfill (
  one boolean NOT NULL DEFAULT true,
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  CONSTRAINT search_backfill_one_check CHECK (one),
  CONSTRAINT search_backfill_pkey PRIMARY KEY (one)
);

CREATE TABLE session_ancestors (
  conversation_id bigint NOT NULL,
  ancestor_id bigint NOT NULL,
  tenant_id text NOT NULL,
  after_seq bigint NOT NULL,
  seq bigint NOT NULL,
  inherited bytea[] NOT NULL,
  owner_id text NOT NULL DEFAULT ''::text,
  CONSTRAINT session_ancestors_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_ancestors_pkey PRIMARY KEY (conversation_id, ancestor_id)
);

CREATE INDEX session_ancestors_by_ancestor ON public.session_ancestors USING btree (ancestor_id);

CREATE INDEX session_ancestors_by_owner ON public.session_ancestors USING btree (tenant_id, owner_id) WHERE (owner_id <> ''::text);

CREATE TABLE session_changes (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  conversation_id bigint NOT NULL,
  tenant_id text NOT NULL,
  first_revision bigint NOT NULL,
  last_revision bigint NOT NULL,
  first_seq bigint,
  last_seq bigint,
  removed boolean NOT NULL,
  at timestamp with time zone NOT NULL,
  reached xid8 NOT NULL DEFAULT pg_snapshot_xmax(pg_current_snapshot()),
  CONSTRAINT session_changes_pkey PRIMARY KEY (xid, conversation_id, first_revision)
);

CREATE TABLE session_imports (
  tenant_id text NOT NULL,
  import_id text NOT NULL,
  source_id bigint NOT NULL,
  conversation_id bigint NOT NULL,
  digest bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT session_imports_pkey PRIMARY KEY (tenant_id, import_id, source_id)
);

CREATE INDEX session_imports_by_conversation ON public.session_imports USING btree (conversation_id);

CREATE TABLE session_labels (
  conversation_id bigint NOT NULL,
  tenant_id text NOT NULL,
  owner_id text NOT NULL,
  metadata jsonb,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone,
  CONSTRAINT session_labels_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_labels_pkey PRIMARY KEY (conversation_id)
);

CREATE INDEX session_labels_by_creation ON public.session_labels USING btree (tenant_id, created_at);

CREATE INDEX session_labels_by_expiry ON public.session_labels USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX session_labels_by_metadata ON public.session_labels USING gin (metadata jsonb_path_ops);

CREATE INDEX session_labels_by_owner ON public.session_labels USING btree (tenant_id, owner_id) WHERE (owner_id <> ''::text);

CREATE TABLE session_snapshots (
  conversation_id bigint NOT NULL,
  id bigint NOT NULL DEFAULT nextval('session_snapshots_id_seq'::regclass),
  name text NOT NULL,
  by_policy boolean NOT NULL,
  revision bigint NOT NULL,
  last_seq bigint NOT NULL,
  message_count bigint NOT NULL,
  state text,
  created_by text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT session_snapshots_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_snapshots_pkey PRIMARY KEY (conversation_id, id)
);

CREATE TABLE session_states (
  conversation_id bigint NOT NULL,
  state text NOT NULL,
  revision bigint NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT session_states_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_states_pkey PRIMARY KEY (conversation_id)
);

CREATE TABLE session_tags (
  conversation_id bigint NOT NULL,
  tag text NOT NULL,
  tenant_id text NOT NULL,
  CONSTRAINT session_tags_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_tags_pkey PRIMARY KEY (conversation_id, tag)
);

CREATE INDEX session_tags_by_tag ON public.session_tags USING btree (tenant_id, tag, conversation_id);

CREATE TABLE tenant_requests (
  tenant_id text NOT NULL,
  request_id text NOT NULL,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  conversation_id bigint,
  owner_id text NOT NULL DEFAULT ''::text,
  CONSTRAINT tenant_requests_pkey PRIMARY KEY (tenant_id, request_id)
);

CREATE INDEX tenant_requests_by_age ON public.tenant_requests USING btree (created_at);

CREATE INDEX tenant_requests_by_session ON public.tenant_requests USING btree (conversation_id) WHERE (conversation_id IS NOT NULL);

CREATE OR REPLACE FUNCTION public.agentstore_gram_query(tenant text, model text, part text)
 RETURNS tsquery
 LANGUAGE plpgsql
 IMMUTABLE STRICT
AS $function$
DECLARE
  places int := least(greatest(length(part) - 2, 1), 12);
  last int := greatest(length(part) - 2, 1);
  grams text;
BEGIN
  SELECT string_agg(DISTINCT '''' || replace(replace(gram, '\', '\\'), '''', '''''') || ''''
                    || CASE WHEN length(part) < 3 THEN ':*' ELSE '' END, ' & ')
    INTO grams
    FROM (SELECT substr(part, 1 + (last - 1) * n / greatest(places - 1, 1), 3) AS gram
            FROM generate_series(0, places - 1) AS n) AS t;
  RETURN grams::tsquery && agentstore_scope_query(tenant, model);
END $function$;

CREATE OR REPLACE FUNCTION public.agentstore_grams(tenant text, model text, body text)
 RETURNS tsvector
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT COST 10000
AS $function$
DECLARE
  characters text[];
BEGIN
  IF length(body) > 80000 THEN
    RETURN NULL;
  END IF;
  characters := string_to_array(body, NULL);
  RETURN array_to_tsvector(
    ARRAY(SELECT coalesce(a || b || c, a || b, a)
            FROM unnest(characters, characters[2:], characters[3:]) AS t (a, b, c))
    || ARRAY[E'\x01t' || hashtextextended(tenant, 0),
             E'\x01m' || hashtextextended(tenant || E'\x01' || model, 0)]);
END $function$;

CREATE OR REPLACE FUNCTION public.agentstore_language(content text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT COST 1000
AS $function$
DECLARE
  beginning text := lower(left(content, 400));
BEGIN
  IF octet_length(beginning) > length(beginning) THEN
    CASE
      WHEN beginning ~ '[\u0370-\u03FF]{3}' THEN RETURN 'greek';
      WHEN beginning ~ '[\u0400-\u04FF]{3}' THEN RETURN 'russian';
      WHEN beginning ~ '[\u0600-\u06FF]{3}' THEN RETURN 'arabic';
      WHEN beginning ~ '[\u0900-\u097F]{2}' THEN RETURN 'hindi';
      WHEN beginning ~ '[\u0B80-\u0BFF]{2}' THEN RETURN 'tamil';
      WHEN beginning ~ '[\u0530-\u058F]{3}' THEN RETURN 'armenian';
      ELSE NULL;
    END CASE;
  END IF;
  RETURN coalesce((
    SELECT common.language
      FROM unnest(string_to_array(translate(beginning, E'\n\t.,;:!?()[]{}"''’-/', repeat(' ', 20)), ' ')) AS said (word)
      JOIN (SELECT language, unnest(words) AS word FROM (VALUES
        ('english', '{the,and,of,to,is,that,it,for,you,with,are,this,have,be,on,was,not,what,can,from,my,your,we,how,they,will,would}'::text[]),
        ('german', '{der,die,das,und,ist,nicht,ich,ein,eine,zu,den,mit,von,auf,für,sie,es,im,dem,auch,wie,wir,kann,haben,wird,bei,oder}'),
        ('french', '{le,la,les,de,des,et,est,un,une,que,pour,dans,vous,je,pas,sur,qui,avec,ce,il,au,du,nous,sont,mais,plus,cette}'),
        ('spanish', '{el,la,los,las,de,que,y,en,un,una,es,por,con,para,no,se,del,su,al,como,pero,más,este,esta,está,usted,hay}'),
        ('italian', '{il,di,che,la,e,un,una,per,non,sono,con,del,della,è,si,lo,gli,come,ma,anche,questo,nel,alla,ho,più,dei,ha}'),
        ('portuguese', '{o,os,de,que,e,do,da,em,um,uma,para,com,não,no,na,se,por,mais,como,mas,foi,ao,você,são,está,dos,isso}'),
        ('dutch', '{de,het,een,en,van,ik,is,dat,niet,op,te,zijn,met,voor,er,aan,je,ook,maar,naar,wat,dit,heeft,bij,of,we,kan}'),
        ('swedish', '{och,det,att,en,ett,jag,är,på,som,inte,för,med,den,av,har,om,kan,vi,till,från,du,men,så,var,hur,detta,ska}'),
        ('danish', '{og,det,at,en,et,jeg,er,på,som,ikke,for,med,den,af,har,om,kan,vi,til,fra,du,men,så,hvad,hvor,skal,også}'),
        ('norwegian', '{og,det,at,en,et,jeg,er,på,som,ikke,for,med,den,av,har,om,kan,vi,til,fra,du,men,så,hva,hvor,skal,også}'),
        ('finnish', '{ja,on,ei,se,että,en,hän,oli,mutta,kun,niin,minä,sinä,ovat,tämä,mitä,voi,jos,myös,kuin,joka,olen,mikä,siitä,vain}'),
        ('turkish', '{ve,bir,bu,için,ile,da,de,çok,ne,ben,sen,daha,gibi,var,ama,mi,mı,olarak,nasıl,değil,kadar,sonra,bana,şey,ise}')
      ) AS list (language, words)) AS common USING (word)
     GROUP BY common.language
    HAVING count(*) > 1
     ORDER BY count(*) DESC, common.language <> 'english', common.language
     LIMIT 1), 'english');
END $function$;

CREATE OR REPLACE FUNCTION public.agentstore_scope_query(tenant text, model text)
 RETURNS tsquery
 LANGUAGE sql
 IMMUTABLE STRICT
AS $function$
  SELECT quote_literal((agentstore_scopes(tenant, model))[CASE WHEN model = '' THEN 1 ELSE 2 END])::tsquery
$function$;

CREATE OR REPLACE FUNCTION public.agentstore_scopes(tenant text, model text)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$
  SELECT ARRAY[E'\x01t' || hashtextextended(tenant, 0),
               E'\x01m' || hashtextextended(tenant || E'\x01' || model, 0)]
$function$;

CREATE OR REPLACE FUNCTION public.agentstore_words(language text, content text)
 RETURNS tsvector
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE STRICT COST 10000
AS $function$
DECLARE
  cjk CONSTANT text := '[\u1100-\u11FF\u3005\u3041-\u3096\u309D-\u309F\u30A1-\u30FA\u30FC-\u30FF\u3105-\u312F\u3131-\u318E\u31A0-\u31BF\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uA960-\uA97C\uAC00-\uD7A3\uF900-\uFAFF\U00020000-\U0003FFFF]';
  words text := left(content, 80000);
BEGIN
  IF octet_length(words) > length(words) THEN
    words := left(normalize(words, NFKC), 80000);
    IF words ~ cjk THEN
      words := regexp_replace(words, '(' || cjk || '+)', ' \1 ', 'g');
      words := left(regexp_replace(words, '(' || cjk || ')', '\1 \1', 'g'), 200000);
    END IF;
  END IF;
  RETURN to_tsvector(language::regconfig, translate(words, '/\<>@_-.:&=+*|~''’"', '                  '));
END $function$;
