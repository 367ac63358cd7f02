import { describe, expect, it } from 'vitest';

import { linked } from '../../src/plugins/links';

const ID = '6714d9d4822479be';

function link(href: string, className = 'ta-open'): HTMLElement {
  const anchor = document.createElement('a');
  anchor.className = className;
  anchor.setAttribute('href', href);
  return anchor.appendChild(document.createElement('b'));
}

describe('a link of an output', () => {
  it('leads to a job or a group', () => {
    for (const id of [ID, `g${ID}`]) {
      const place = { environment: 'prod.eu-1', id };
      expect(linked(link(`#taskapi-job/prod.eu-1/${id}`))).toEqual(place);
    }
  });

  it('is left alone where it is any other', () => {
    for (const href of [
      '',
      '#',
      `#taskapi-job/local/${ID}x`,
      `#taskapi-job/local/${ID}\n`,
      `#taskapi-job/local/gg${ID}`,
      `#taskapi-job/../${ID}`,
      `#taskapi-job/a/b/${ID}`,
      `#taskapi-job/local/../../api/contents`,
      `#taskapi-job/<img src=x>/${ID}`,
      `https://elsewhere.example/#taskapi-job/local/${ID}`,
      `javascript:alert(1)//#taskapi-job/local/${ID}`
    ]) {
      expect(linked(link(href))).toBeNull();
    }
    expect(linked(link(`#taskapi-job/local/${ID}`, ''))).toBeNull();
    expect(linked(document)).toBeNull();
    expect(linked(null)).toBeNull();
  });
});
