import { describe, expect, it } from 'vitest';

import { linkedJob } from '../../src/plugins/links';

const ID = '6714d9d4822479be';

function link(href: string, className = 'ta-open'): HTMLElement {
  const anchor = document.createElement('a');
  anchor.className = className;
  anchor.setAttribute('href', href);
  return anchor.appendChild(document.createElement('b'));
}

describe('a link of an output', () => {
  it('leads to a job', () => {
    const place = { environment: 'prod.eu-1', id: ID };
    expect(linkedJob(link(`#taskapi-job/prod.eu-1/${ID}`))).toEqual(place);
  });

  it('is left alone where it is any other', () => {
    for (const href of [
      '',
      '#',
      `#taskapi-job/local/${ID}x`,
      `#taskapi-job/local/${ID}\n`,
      `#taskapi-job/../${ID}`,
      `#taskapi-job/a/b/${ID}`,
      `#taskapi-job/local/../../api/contents`,
      `#taskapi-job/<img src=x>/${ID}`,
      `https://elsewhere.example/#taskapi-job/local/${ID}`,
      `javascript:alert(1)//#taskapi-job/local/${ID}`
    ]) {
      expect(linkedJob(link(href))).toBeNull();
    }
    expect(linkedJob(link(`#taskapi-job/local/${ID}`, ''))).toBeNull();
    expect(linkedJob(document)).toBeNull();
    expect(linkedJob(null)).toBeNull();
  });
});
