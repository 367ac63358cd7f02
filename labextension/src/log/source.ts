import type { TranslationBundle } from '@jupyterlab/translation';
import type { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import type { IJobRef, ILogChunk, TaskAPIClient } from '../api/client';
import type { Job } from '../api/contract';
import { hasEnded, LOCAL } from '../api/contract';
import { size } from '../ui/format';
import type { TaskAPIModel } from '../model/model';
import { APIError } from '../api/request';
import { LogStream } from './stream';
import { LogBuffer } from './text/buffer';

/** Bytes that one request asks for. */
const CHUNK = 2 << 20;

/** Bytes of a log that are shown: of a longer one, the newest. */
export const SHOWN = 256 << 20;

/** Milliseconds between two polls of a log that grows, and at most while the server is unreachable. */
const INTERVAL = 500;
const LONGEST_INTERVAL = 4_000;

/** Milliseconds between two polls of a job without events, as of a cluster’s. */
const JOB_INTERVAL = 2_000;

/** How the reading of a log goes. */
export type Phase =
  | 'reading' // what is there already
  | 'following'
  | 'unreachable' // the server does not answer; it tries again
  | 'complete'
  | 'failed';

/**
 * The log of one job, as far as it was read, and the job itself.
 *
 * It is read in parts while it is on show; where the server has no parts, as of a cluster's job, it is streamed.
 */
export class LogSource implements IDisposable {
  constructor(
    readonly ref: IJobRef,
    private readonly model: TaskAPIModel,
    private readonly trans: TranslationBundle
  ) {
    this._client = model.client;
    this._poll = new Poll({
      auto: false,
      factory: () => this.poll(),
      frequency: { interval: INTERVAL, backoff: true, max: LONGEST_INTERVAL },
      name: `taskapi-jupyter:log:${ref.id}`,
      standby: () =>
        this._streaming === null && (document.hidden || !this._active)
    });
    this._jobPoll = new Poll({
      auto: false,
      factory: () => this.pollJob(),
      frequency: {
        interval: JOB_INTERVAL,
        backoff: true,
        max: LONGEST_INTERVAL
      },
      name: `taskapi-jupyter:log-job:${ref.id}`,
      standby: () => document.hidden || !this._active || this.ended
    });
    model.changed.connect(this.onModel, this);
  }

  /** Text arrived, or something else that is shown changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  readonly buffer = new LogBuffer();

  /** The job as last read; null before that. */
  get job(): Job | null {
    return this.model.jobs(this.ref.environment).get(this.ref.id) ?? this._job;
  }

  /** Whether the job is known to have ended. */
  get ended(): boolean {
    const { job } = this;
    return job !== null && hasEnded(job);
  }

  get phase(): Phase {
    return this._phase;
  }

  /** What went wrong, or what else to know about this log: a sentence, or empty. */
  get message(): string {
    return this._message;
  }

  /** Whether `message` is information rather than a failure. */
  get isNote(): boolean {
    return this._isNote;
  }

  /** The share of the log that was read, from 0 to 1. */
  get share(): number {
    return this._size ? this._next / this._size : 1;
  }

  /** Set whether the log is on show; reading begins when it first is. */
  set active(active: boolean) {
    this._active = active;
    this.watch();
    if (active && !this.isDisposed) {
      if (!this._started) {
        this._started = true;
        void this._poll.start();
        void this._jobPoll.start();
      } else if (!this.isOver) {
        void this._poll.refresh();
      }
    }
  }

  /** Return the whole log. */
  async whole(): Promise<Blob> {
    const type = 'text/plain;charset=utf-8';
    const { buffer } = this;
    const isHere = this._phase === 'complete' && !this._skipped;
    if (isHere || this._streams) {
      return new Blob(buffer.bytes() as BlobPart[], { type });
    }
    const parts: Blob[] = [];
    for (let next = 0, isMore = true; isMore;) {
      const chunk = await this._client.log(this.ref, next, 8 * CHUNK);
      parts.push(new Blob([chunk.data as BlobPart]));
      isMore = chunk.next > next && chunk.next < chunk.size;
      next = chunk.next;
    }
    return new Blob(parts, { type });
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._poll.dispose();
      this._jobPoll.dispose();
      this._abort.abort();
      this._streaming?.dispose();
      this._watch?.dispose();
      this.buffer.clear();
      Signal.clearData(this);
    }
  }

  private onModel(): void {
    this.watch();
    this.emit();
  }

  /** Have the model poll the job’s progress, while it runs and the log is on show. */
  private watch(): void {
    if (this._active && !this.isDisposed && !this.ended) {
      this._watch ??= this.model.watch();
    } else {
      this._watch?.dispose();
      this._watch = null;
    }
  }

  private get isOver(): boolean {
    return this._phase === 'complete' || this._phase === 'failed';
  }

  /** Read on; rejects where it should be tried again, after a growing pause. */
  private async poll(): Promise<void> {
    try {
      if (!this._streams) {
        await this.read();
      }
      if (this._streams) {
        await this.stream();
      }
    } catch (error) {
      if (this.isDisposed) {
        return;
      }
      if (!(error instanceof Error)) {
        throw error;
      }
      if (error instanceof APIError && error.status === 404) {
        this.end('failed', error.message);
        return;
      }
      this.say('unreachable', error.message);
      throw error;
    }
  }

  /** Read all that was written since the last poll. */
  private async read(): Promise<void> {
    // A job that has ended writes no more: this read of its log is the last.
    const { ended } = this;
    let from: number;
    let chunk: ILogChunk | null;
    do {
      from = this._next;
      chunk = await this.readChunk(from, CHUNK);
      if (this.isDisposed) {
        return;
      }
      if (chunk === null) {
        this._streams = true;
        this._poll.frequency = {
          ...this._poll.frequency,
          interval: JOB_INTERVAL
        };
        return;
      }
      this.take(chunk, from);
      if (this._phase === 'unreachable' || this._phase === 'reading') {
        this.say(chunk.next < chunk.size ? 'reading' : 'following', '');
      }
      this.emit();
    } while (chunk.next > from && this._next < chunk.size);
    if (ended) {
      this.end('complete', '');
    }
  }

  /** Return a part of the log; null where the server has no parts of it. */
  private async readChunk(
    from: number,
    limit: number
  ): Promise<ILogChunk | null> {
    try {
      return await this._client.log(this.ref, from, limit, this._abort.signal);
    } catch (error) {
      if (error instanceof APIError && error.notKept) {
        this._sentence = error.message;
        return null;
      }
      throw error;
    }
  }

  private take(chunk: ILogChunk, from: number): void {
    const { buffer, trans } = this;
    let { data } = chunk;
    if (chunk.offset > from) {
      const marker = data.indexOf(10) + 1; // the server's own line, which says what is gone
      buffer.appendNote(data.subarray(0, marker));
      data = data.subarray(marker);
    }
    buffer.append(data);
    this._next = chunk.next;
    this._size = chunk.size;
    const beyond = chunk.size - SHOWN - chunk.next;
    if (beyond > 0) {
      const note = trans.__(
        '[... %1 not shown: download the log to read all of it ...]',
        size(beyond)
      );
      buffer.appendNote(new TextEncoder().encode(`${note}\n`));
      this._next += beyond;
      this._skipped = true;
    }
    buffer.trim(SHOWN);
    this._skipped ||= buffer.dropped > 0 || buffer.isThinned;
  }

  /** Follow a cluster's stream to its end. */
  private async stream(): Promise<void> {
    for (const route of ['streamlogs', 'logs']) {
      const closed = await this.follow(route);
      if (this.isDisposed) {
        return;
      }
      if (closed === null) {
        continue; // refused
      }
      if (closed.code === 1000 || this.ended) {
        this.end('complete', '');
        return;
      }
      throw new Error(
        closed.reason || this.trans.__('The log’s connection was lost.')
      );
    }
    await this.pollJob();
    if (this.ended) {
      await this.readChunk(0, 1); // the server’s sentence is another one now
      this.end('complete', this._sentence, true);
    } else {
      this.say(
        'following',
        this.trans.__('There is no log of this job yet.'),
        true
      );
    }
  }

  /** Append what a websocket sends until it is closed; null where it was never open. */
  private async follow(route: string): Promise<CloseEvent | null> {
    const { buffer } = this;
    const encoder = new TextEncoder();
    this._streaming = new LogStream(this.ref, route, this._client.settings, {
      opened: () => {
        if (buffer.rows) {
          buffer.clear(); // it begins at the beginning
        }
        this.say('following', '');
      },
      received: text => {
        buffer.append(encoder.encode(text));
        buffer.trim(SHOWN);
        this.emit();
      },
      ended: () => this.ended
    });
    const closed = await this._streaming.closed;
    this._streaming = null;
    return closed;
  }

  /** Read the job, where no event would say that it changed. */
  private async pollJob(): Promise<void> {
    const { environment, id } = this.ref;
    const { current, local } = this.model;
    const hasEvents =
      (environment === LOCAL && local.get(id)) ||
      (environment === current.environment && current.get(id));
    if (!hasEvents && !this.ended) {
      const { job_status: job } = await this._client.job(this.ref);
      this._job = job;
      this.emit();
    }
  }

  private say(phase: Phase, message: string, isNote = false): void {
    if (phase !== this._phase || message !== this._message) {
      this._phase = phase;
      this._message = message;
      this._isNote = isNote;
      this.emit();
    }
  }

  private end(
    phase: 'complete' | 'failed',
    message: string,
    isNote = false
  ): void {
    this.say(phase, message, isNote);
    void this._poll.stop();
  }

  private emit(): void {
    if (!this.isDisposed) {
      (this.changed as Signal<this, void>).emit();
    }
  }

  private _client: TaskAPIClient;
  private _job: Job | null = null;
  private _phase: Phase = 'reading';
  private _message = '';
  private _isNote = false;
  private _active = false;
  private _started = false;
  private _next = 0;
  private _size = 0;
  private _skipped = false;
  private _streams = false;
  private _sentence = '';
  private _streaming: LogStream | null = null;
  private _abort = new AbortController();
  private _watch: IDisposable | null = null;
  private _poll: Poll;
  private _jobPoll: Poll;
}
