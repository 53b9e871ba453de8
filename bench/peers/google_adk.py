"""The DatabaseSessionService of Google's Agent Development Kit."""

import asyncio

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from serve import contents, serve

APP = "bench"


def event(n, content):
    role = ["user", "model"][n % 2]
    part = types.Part(text=content)
    return Event(author=role, content=types.Content(role=role, parts=[part]))


class Peer:
    async def prepare(self, job):
        url = make_url(job["databaseUrl"]).set(drivername="postgresql+asyncpg")
        url = url.render_as_string(hide_password=False)
        self.service = DatabaseSessionService(url)
        self.counts = {size["messages"]: size["sessions"] for size in job["sizes"]}
        engine = create_async_engine(url)
        for messages, sessions in self.counts.items():
            for n in range(sessions):
                name = f"{messages}-{n}"
                session = await self.service.create_session(
                    app_name=APP, user_id="user", session_id=name
                )
                await self.service.append_event(session, event(0, contents(1)[0]))
                # Copies of the first event: ten thousand by append_event() would take long.
                async with engine.begin() as connection:
                    await connection.execute(
                        text("""INSERT INTO events SELECT (jsonb_populate_record(e, jsonb_build_object(
                                  'id', gen_random_uuid()::text,
                                  'timestamp', e.timestamp - n * interval '1 ms'))).*
                                  FROM events e, generate_series(1, :more) n
                                 WHERE e.session_id = :session"""),
                        {"more": messages - 1, "session": name},
                    )
        one = await self.service.create_session(app_name=APP, user_id="listed")
        async with engine.begin() as connection:
            await connection.execute(
                text("""INSERT INTO sessions SELECT (jsonb_populate_record(s, jsonb_build_object(
                          'id', gen_random_uuid()::text))).*
                          FROM sessions s, generate_series(2, :listed) WHERE s.id = :session"""),
                {"listed": job["listed"], "session": one.id},
            )
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("ANALYZE"))
        await engine.dispose()
        self.sessions = {}

    async def get(self, messages, index, recent=None):
        name = f"{messages}-{index % self.counts[messages]}"
        config = None if recent is None else GetSessionConfig(num_recent_events=recent)
        return await self.service.get_session(
            app_name=APP, user_id="user", session_id=name, config=config
        )

    async def append(self, messages, index):
        """Reads the session's state first, as append_event() wants it; without its events."""
        session = await self.get(messages, index, recent=1)
        for n, content in enumerate(contents(6)):
            await self.service.append_event(session, event(n, content))
        return 6

    async def last(self, messages, index):
        return len((await self.get(messages, index, recent=20)).events)

    async def all(self, messages, index):
        return len((await self.get(messages, index)).events)

    async def list(self, messages, index):
        """There are no pages: it lists them all."""
        return len((await self.service.list_sessions(app_name=APP, user_id="listed")).sessions)


asyncio.run(serve(Peer()))
