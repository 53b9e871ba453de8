// What several watches read because of one page of changes: once, for whoever asks first.
import type { Database } from "../db/database.js";
import { type EventsPage, findPlace, readEvents, type Wanted } from "./events.js";
import type { LabelsRow } from "./sql.js";
import * as sql from "./sql.js";
import type { ToldSession } from "./told-sessions.js";

/** The reads of one page. Others may wait for the same, so the signal is nobody's call's. */
export class SharedReads {
  readonly #labels = new Map<string, Promise<Map<bigint, LabelsRow>>>();
  readonly #events = new Map<bigint, Promise<EventsPage | undefined>>();

  /** The labels of those of a tenant's sessions that are there. */
  labels(
    db: Database,
    tenant: string,
    ids: bigint[],
    signal: AbortSignal,
  ): Promise<Map<bigint, LabelsRow>> {
    const known = this.#labels.get(tenant);
    if (known) return known;
    const read = db
      .query(sql.findLabels, [ids, tenant], signal)
      .then((rows) => new Map(rows.map((row) => [row.id, row])));
    this.#labels.set(tenant, read);
    read.catch(() => this.#labels.delete(tenant));
    return read;
  }

  /** Lets go of the events, which weigh something. */
  forget(): void {
    this.#events.clear();
  }

  /** The first page of events of each of some sessions of a tenant. */
  events(
    db: Database,
    tenant: string,
    sessions: ToldSession[],
    signal: AbortSignal,
  ): Promise<EventsPage | undefined>[] {
    const unknown = sessions.filter(({ id }) => !this.#events.has(id));
    if (unknown.length > 0) {
      const wanted = Promise.all(unknown.map((one) => wantedOf(db, tenant, one, signal)));
      const read = wanted.then((all) => readEvents(db, all, signal));
      for (const { id } of unknown) {
        const page = read.then((pages) => pages.get(id));
        this.#events.set(id, page);
        page.catch(() => this.#events.delete(id));
      }
    }
    return sessions.map(({ id }) => this.#events.get(id) ?? Promise.resolve(undefined));
  }
}

// Where the first versions begin that the changes have added. One change alone has either appended all
// of its messages or none; of several, the first message may be one that was edited.
async function wantedOf(
  db: Database,
  tenant: string,
  { id, first, last, changes, firstSeq }: ToldSession,
  signal: AbortSignal,
): Promise<Wanted> {
  const revision = first - 1n;
  const found = changes > 1 ? await findPlace(db, id, tenant, revision, signal) : undefined;
  const seq = found?.place.seq ?? (firstSeq ?? 1n) - 1n;
  return { conversationId: id, tenant, after: { revision, seq }, upTo: last };
}
