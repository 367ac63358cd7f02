import type { Job } from '../api/contract';
import { serverTime } from '../api/request';
import { NAMESPACE } from '../tokens';
import { endOf } from './told';

/** Milliseconds until what one tab stored is visible to all. */
const SPREADS = 1_000;

/** Ended jobs that are remembered one by one; those that ended before the oldest of them count as seen. */
const REMEMBERED = 300;

/** A job that ended, in the words that are stored: its id, and when it ended, in milliseconds. */
type Ended = [id: string, at: number];

/** What this browser saw of an environment: all that ended up to `until`, and `ended` since. */
interface ISeen {
  until: number;
  ended: Ended[];
}

/**
 * Which jobs this browser has seen end: kept in its storage, shared by its tabs.
 *
 * What ended before an environment was first seen counts as seen, whenever it is read: the server's clock says when
 * that was.
 */
export class SeenJobs {
  /** @param server the server's base URL: several may share an origin, and so its storage. */
  constructor(server: string) {
    this._key = `${NAMESPACE}:ended:${server}`;
  }

  /** Mark jobs that ended as seen, and return those that were not; of two tabs that ask, one is given a job. */
  claim(environment: string, jobs: readonly Job[]): Promise<Job[]> {
    const { locks } = navigator; // on https and localhost alone
    if (!locks) {
      return Promise.resolve(this.mark(environment, jobs));
    }
    return new Promise((resolve, reject) => {
      const claim = async () => {
        const fresh = this.mark(environment, jobs);
        resolve(fresh);
        if (fresh.length) {
          // Another tab's process does not see at once what was stored here.
          await new Promise(seen => setTimeout(seen, SPREADS));
        }
      };
      locks.request(this._key, claim).catch(reject);
    });
  }

  private mark(environment: string, jobs: readonly Job[]): Job[] {
    const all = this.read();
    const times = new Map(jobs.map(job => [job, endOf(job)]));
    const seen = all[environment] ?? {
      until: Math.max(serverTime() ?? 0, ...times.values()),
      ended: []
    };
    const known = new Set(seen.ended.map(([id]) => id));
    const fresh = jobs.filter(
      job => times.get(job)! > seen.until && !known.has(job.job_id)
    );
    const ended = seen.ended
      .concat(fresh.map(job => [job.job_id, times.get(job)!]))
      .sort(([, a], [, b]) => b - a);
    const [, forgotten = seen.until] = ended[REMEMBERED] ?? [];
    if (fresh.length || !(environment in all)) {
      this.write({
        ...all,
        [environment]: { until: forgotten, ended: ended.slice(0, REMEMBERED) }
      });
    }
    return fresh;
  }

  private read(): { [environment: string]: ISeen } {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(this._key) ?? '');
      if (isSeen(kept)) {
        this._memory = kept;
      }
    } catch {
      // nothing is kept yet, or nothing can be kept
    }
    return this._memory;
  }

  private write(seen: { [environment: string]: ISeen }): void {
    this._memory = seen;
    try {
      localStorage.setItem(this._key, JSON.stringify(seen));
    } catch {
      // full or forbidden: then until the page is left
    }
  }

  private readonly _key: string;
  private _memory: { [environment: string]: ISeen } = {};
}

function isSeen(kept: unknown): kept is { [environment: string]: ISeen } {
  return (
    typeof kept === 'object' &&
    kept !== null &&
    Object.values(kept).every(
      (seen: Partial<ISeen> | null) =>
        typeof seen?.until === 'number' &&
        Array.isArray(seen.ended) &&
        seen.ended.every(Array.isArray)
    )
  );
}
