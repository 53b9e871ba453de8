-- What messages are found by: a copy of their text, made in the background, so that no append waits for
-- an index. The decision record of search (docs/decisions) says how it is read and why it misses nothing.

-- The sequences of three characters of a text, at each of its characters; of two or one at its end. So
-- any text of three or more characters that it contains is among them, and any shorter one begins one of
-- them. With two more entries that say whose it is, which no text can have. NULL where a tsvector might not
-- hold them all. Dear, so that the planner never computes it where it can use an index of it.
CREATE FUNCTION agentstore_grams(tenant text, model text, body text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
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
END $$;

-- The entries that say to which tenant and which of its models a message belongs. agentstore_grams() has
-- them as well, but calls no function of ours: a restored dump builds its index with none in sight.
CREATE FUNCTION agentstore_scopes(tenant text, model text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT ARRAY[E'\x01t' || hashtextextended(tenant, 0),
               E'\x01m' || hashtextextended(tenant || E'\x01' || model, 0)]
$$;

-- The condition on agentstore_scopes() that chooses a model; where it is '', a tenant.
CREATE FUNCTION agentstore_scope_query(tenant text, model text) RETURNS tsquery
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT quote_literal((agentstore_scopes(tenant, model))[CASE WHEN model = '' THEN 1 ELSE 2 END])::tsquery
$$;

-- What agentstore_grams() of a text has that contains another one. Of a long one, 12 places are enough to
-- find by: what is found is compared with the whole text.
CREATE FUNCTION agentstore_gram_query(tenant text, model text, part text) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
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
END $$;

-- The words of a message in the forms that they are found by. Of Chinese, Japanese and Korean, each two
-- characters side by side, and the first and last of a stretch. What joins words parts them here, so that
-- a path is found by its parts. Of a text that is longer than a tsvector can hold, the beginning.
CREATE FUNCTION agentstore_words(language text, content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
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
END $$;

-- The language that a message is probably written in: by its script, and by the small words that are the
-- commonest ones of each language. English where nothing speaks for another one.
CREATE FUNCTION agentstore_language(content text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $$
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
END $$;

CREATE TABLE message_search (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  id bigint NOT NULL,
  -- That of the message when it was read. A row whose message has another one by now counts for nothing.
  revision bigint NOT NULL,
  tenant_id text NOT NULL,
  model_id text NOT NULL,
  role text NOT NULL,
  -- The lowest number of all where the message has no time.
  ts_ms bigint NOT NULL,
  -- The content in lower case.
  body text NOT NULL,
  -- Too long for agentstore_grams().
  long boolean NOT NULL,
  language text NOT NULL,
  words tsvector NOT NULL,
  -- How many different words there are.
  size int NOT NULL,
  PRIMARY KEY (conversation_id, seq)
);

CREATE INDEX message_search_by_time ON message_search (tenant_id, ts_ms DESC, id DESC);
CREATE INDEX message_search_by_model ON message_search (tenant_id, model_id, ts_ms DESC, id DESC);
CREATE INDEX message_search_long ON message_search (tenant_id, model_id) WHERE long;

CREATE INDEX message_search_grams ON message_search
  USING gin (agentstore_grams(tenant_id, model_id, body));
CREATE INDEX message_search_words ON message_search USING gin (words);

-- ANALYZE would compute the grams of thousands of messages, for a number that nobody asks for.
ALTER INDEX message_search_grams ALTER COLUMN 1 SET STATISTICS 0;

-- One row: the messages before this place, in the order of their keys, were there before the index was
-- and are not in it yet. 0 when all are.
CREATE TABLE search_backfill (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL
);

INSERT INTO search_backfill (conversation_id, seq)
SELECT coalesce(max(id) + 1, 0), 0 FROM conversations;

-- From here on the change log says what is new.
INSERT INTO change_readers (name, position, updated_at)
SELECT 'search', (xmin || ':' || xmin || ':')::pg_snapshot, now()
  FROM pg_snapshot_xmin(pg_current_snapshot()) AS xmin;
