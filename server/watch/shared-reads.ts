// What several watches read because of one page of changes: once, for whoever asks first.
import type { Database } from "../db/database.js";
import { type EventsPage, readEvents, type Wanted } from "./events.js";
import type { LabelsRow } from "./sql.js";
import * as sql from "./sql.js";

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

  /** The first page of events of each of some sessions. Ranges are those of the page of changes. */
  events(db: Database, wanted: Wanted[], signal: AbortSignal): Promise<EventsPage | undefined>[] {
    const unknown = wanted.filter(({ conversationId }) => !this.#events.has(conversationId));
    if (unknown.length > 0) {
      const read = readEvents(db, unknown, signal);
      for (const { conversationId } of unknown) {
        const page = read.then((pages) => pages.get(conversationId));
        this.#events.set(conversationId, page);
        page.catch(() => this.#events.delete(conversationId));
      }
    }
    return wanted.map(
      ({ conversationId }) => this.#events.get(conversationId) ?? Promise.resolve(undefined),
    );
  }
}
