import { Signal } from '@lumino/signaling';
import { nullTranslator } from '@jupyterlab/translation';
import { afterEach, describe, expect, it, vi } from 'vitest';

import type { ILogChunk } from '../../src/api/client';
import type { Job } from '../../src/api/contract';
import { LogSource, SHOWN } from '../../src/log/source';
import type { TaskAPIModel } from '../../src/model/model';
import { APIError, Unreachable } from '../../src/api/request';

vi.setConfig({ testTimeout: 30_000 }); // on a busy machine

const encode = (text: string) => new TextEncoder().encode(text);
const REF = { environment: 'local', api: 'train', id: '1' };

/** A server with one job's log, which is what the tests say. */
class Server {
  text = '';
  ended = false;
  fault: Error | null = null;
  /** Where what was dropped ends. */
  begin = 0;
  asked: number[] = [];
  settings = {
    wsUrl: 'ws://here/base/',
    token: 'secret',
    appendToken: true,
    WebSocket: FakeSocket
  };

  async log(_: unknown, offset: number, limit: number): Promise<ILogChunk> {
    this.asked.push(offset);
    if (this.fault) {
      throw this.fault;
    }
    const all = encode(this.text);
    const from = Math.max(offset, this.begin);
    const part = all.subarray(from, from + limit);
    const marker =
      from > offset ? encode(`[... ${from - offset} bytes dropped ...]\n`) : [];
    return {
      data: Uint8Array.of(...marker, ...part),
      offset: from,
      next: from + part.length,
      size: all.length
    };
  }

  async job(): Promise<{ job_status: Job }> {
    return { job_status: this.status };
  }

  get status(): Job {
    const status = this.ended ? 'succeeded' : 'running';
    return { job_id: '1', api_name: 'train', status } as Job;
  }
}

/** A websocket that opens where the test lets it. */
class FakeSocket {
  static made: FakeSocket[] = [];
  static accepts: (url: string) => boolean = () => true;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.made.push(this);
    setTimeout(() =>
      FakeSocket.accepts(url) ? this.onopen?.() : this.close(1006)
    );
  }

  close(code = 1000, reason = ''): void {
    setTimeout(() => this.onclose?.({ code, reason }));
  }
}

let source: LogSource;

function open(server: Server): LogSource {
  const none = { environment: 'local', get: () => undefined };
  const model = {
    client: server,
    changed: new Signal<object, void>({}),
    local: none,
    current: none,
    jobs: () => ({ get: () => server.status }),
    watch: () => ({ dispose: () => undefined })
  } as unknown as TaskAPIModel;
  source = new LogSource(REF, model, nullTranslator.load('x'));
  source.active = true;
  return source;
}

const text = () => source.buffer.text(0, 0, source.buffer.rows - 1, Infinity);
const until = (condition: () => void) =>
  vi.waitFor(condition, { timeout: 10_000, interval: 10 });

afterEach(() => {
  source.dispose();
  FakeSocket.made = [];
  FakeSocket.accepts = () => true;
});

describe('a log that is read in parts', () => {
  it('is read as it grows, to its end, and no further', async () => {
    const server = new Server();
    server.text = 'one\nhal';
    open(server);
    await until(() => expect(text()).toBe('one\nhal'));
    expect(source.phase).toBe('following');
    server.text += 'f\nthree\n';
    await until(() => expect(text()).toBe('one\nhalf\nthree'));
    server.ended = true;
    await until(() => expect(source.phase).toBe('complete'));
    const { length } = server.asked;
    await new Promise(resolve => setTimeout(resolve, 1_200));
    expect(server.asked).toHaveLength(length);
  });

  it('is not read while nobody looks', async () => {
    const server = new Server();
    open(server);
    await until(() => expect(server.asked).toHaveLength(1));
    source.active = false;
    server.text = 'new\n';
    await new Promise(resolve => setTimeout(resolve, 1_200));
    expect(text()).toBe('');
    source.active = true;
    await until(() => expect(text()).toBe('new'));
  });

  it('says what was dropped', async () => {
    const server = new Server();
    server.text = '0123456789rest\n';
    server.begin = 10;
    open(server);
    await until(() => expect(text()).toBe('[... 10 bytes dropped ...]\nrest'));
    expect(source.buffer.isNote(0)).toBe(true);
  });

  it('goes on where it was when the server is back', async () => {
    const server = new Server();
    server.text = 'one\n';
    open(server);
    await until(() => expect(text()).toBe('one'));
    server.fault = new Unreachable();
    await until(() => expect(source.phase).toBe('unreachable'));
    expect(source.message).toContain('can’t be reached');
    server.fault = null;
    server.text += 'two\n';
    await until(() => expect(text()).toBe('one\ntwo'));
    expect(source.phase).toBe('following');
    expect(source.message).toBe('');
  });

  it('is given up where the job is gone', async () => {
    const server = new Server();
    server.fault = new APIError(404, 'job.not_found', 'there is no job 1');
    open(server);
    await until(() => expect(source.phase).toBe('failed'));
    expect(source.message).toBe('there is no job 1');
    expect(source.isNote).toBe(false);
  });

  it('is downloaded whole', async () => {
    const server = new Server();
    server.text = 'one\ntwo';
    server.ended = true;
    open(server);
    await until(() => expect(source.phase).toBe('complete'));
    expect((await source.whole()).size).toBe(7);
  });

  it('has its newest part shown where it is huge', async () => {
    const server = new Server();
    const size = SHOWN + 5_000;
    server.log = async (_, offset, limit) => {
      const data = new Uint8Array(Math.min(limit, 1000, size - offset)).fill(
        10
      );
      const next = offset + data.length;
      server.asked.push(offset);
      return { data, offset, next: offset ? size : next, size };
    };
    open(server);
    await until(() => expect(server.asked.length).toBeGreaterThan(1));
    expect(server.asked.slice(0, 2)).toEqual([0, 5_000]);
    expect(source.buffer.isNote(1000)).toBe(true);
    expect(source.buffer.row(1000)).toContain('3.9 KiB not shown');
  });
});

describe('a log that is streamed', () => {
  const streamed = () => {
    const server = new Server();
    server.fault = new APIError(404, 'environment.not_kept', 'No parts here.');
    open(server);
    return server;
  };

  it('is taken from a websocket, with the token', async () => {
    const server = streamed();
    await until(() => expect(source.phase).toBe('following'));
    const [socket] = FakeSocket.made;
    expect(socket.url).toBe(
      'ws://here/base/taskapi/local/streamlogs/train?jobID=1&token=secret'
    );
    socket.onmessage?.({ data: 'one\n' });
    socket.onmessage?.({ data: 'two\n' });
    expect(text()).toBe('one\ntwo');
    server.ended = true;
    socket.close();
    await until(() => expect(source.phase).toBe('complete'));
    expect(FakeSocket.made).toHaveLength(1);
  });

  it('falls back to the older route, and begins anew after a loss', async () => {
    FakeSocket.accepts = url => url.includes('/logs/');
    streamed();
    await until(() => expect(source.phase).toBe('following'));
    FakeSocket.made[1].onmessage?.({ data: 'one\n' });
    FakeSocket.made[1].close(1006);
    await until(() => expect(source.phase).toBe('unreachable'));
    await until(() => expect(source.phase).toBe('following'));
    FakeSocket.made[3].onmessage?.({ data: 'one\ntwo\n' });
    expect(text()).toBe('one\ntwo');
  });

  it('is a sentence where there is none', async () => {
    FakeSocket.accepts = () => false;
    const server = streamed();
    await until(() =>
      expect(source.message).toContain('no log of this job yet')
    );
    server.ended = true;
    await until(() => expect(source.phase).toBe('complete'));
    expect(source.message).toBe('No parts here.');
    expect(source.isNote).toBe(true);
  });
});
