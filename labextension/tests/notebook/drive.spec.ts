import { ServerConnection } from '@jupyterlab/services';
import { describe, expect, it } from 'vitest';

import { TaskAPIClient } from '../../src/api/client';
import { untrusted } from '../../src/notebook/commands';
import { JobDrive } from '../../src/notebook/drive';

const NOTEBOOK = {
  nbformat: 4,
  nbformat_minor: 5,
  metadata: { kernelspec: { language: 'Python', name: 'python3' } },
  cells: [
    {
      cell_type: 'code',
      source: '1',
      metadata: { trusted: true },
      outputs: [],
      execution_count: null
    }
  ]
};

function driveOf(answer: () => Response): [JobDrive, string[]] {
  const asked: string[] = [];
  const settings = ServerConnection.makeSettings({
    baseUrl: 'http://localhost:3000/',
    fetch: async (request: RequestInfo | URL) => {
      asked.push(new URL((request as Request).url).pathname);
      return answer();
    }
  });
  return [new JobDrive(new TaskAPIClient(settings)), asked];
}

describe('the drive of jobs’ notebooks', () => {
  it('reads one, which is not to be written, nor trusted whatever it says', async () => {
    const [drive, asked] = driveOf(() =>
      Response.json(NOTEBOOK, { headers: { ETag: 'W/"v1"' } })
    );
    const model = await drive.get('local/abc/report-1a2b.ipynb');
    expect(asked).toEqual(['/taskapi/local/jobs/abc/notebook']);
    expect(model).toMatchObject({
      name: 'report-1a2b.ipynb',
      writable: false,
      hash: 'v1'
    });
    expect(model.content.cells[0].metadata.trusted).toBe(false);
    expect(model.content.metadata.language_info).toEqual({ name: 'python' });
    expect(drive.taken(model.path)).toEqual(model.content.cells);
    expect(drive.taken(model.path)).toEqual([]);
    await expect(drive.save()).rejects.toThrow('save a copy');
  });

  it('has an empty one before the first save, and says what else is wrong', async () => {
    const refusal = (kind: string) => () =>
      Response.json({ kind, message: kind }, { status: 404 });
    const [early] = driveOf(refusal('job.no_notebook_yet'));
    const model = await early.get('local/abc/report.ipynb');
    expect(model.content.cells).toEqual([]);
    const [none] = driveOf(refusal('job.no_notebook'));
    await expect(none.get('local/abc/x.ipynb')).rejects.toThrow(
      'job.no_notebook'
    );
  });

  it('gives copies that no server signs', () => {
    expect(untrusted(NOTEBOOK).cells[0].metadata).toEqual({});
    expect(NOTEBOOK.cells[0].metadata.trusted).toBe(true);
  });
});
