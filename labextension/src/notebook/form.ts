import { PathExt } from '@jupyterlab/coreutils';
import type { INotebookContent } from '@jupyterlab/nbformat';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { DeployPlan, DeployRequest, Submission } from '../api/contract';
import type { Wrong } from '../ui/fields';
import { clean } from '../ui/format';
import { hasScriptBlock, sourceOf } from './cells';
import type { IPlace } from './paths';
import { pathOf } from './paths';
import type { IAssigned, Value } from './parameters';
import { fieldOf, kindOf, valueOf } from './parameters';

/** Seconds for which a kernel is kept after a cell failed. */
export const KEPT = 1800;

/** Where a job's packages come from: its kernel, the notebook's `# /// script` block, its project's files, a list. */
export type Packages = 'kernel' | 'script' | 'project' | 'list';

/** What is typed into the form that runs a notebook as a job. */
export interface IForm {
  name: string;
  /** A kernelspec's name. */
  kernel: string;
  /** Empty: what the notebook asks for, else the kernel's own. */
  packages: Packages | '';
  /** The list, a requirement a line. */
  requirements: string;
  /** The minor version of Python that packages get, such as `3.12`; empty: one that fits. */
  python: string;
  /** The parameters that are not as the notebook has them. */
  parameters: { [name: string]: string };
  timeout: string;
  memory: string;
  html: boolean;
  keep: boolean;
}

/** Return the name of a notebook's API, as the server makes it of its file's: small letters, others as `-`. */
export function nameFor(path: string): string {
  const stem = PathExt.basename(path, '.ipynb').toLowerCase();
  const name = trimmed(stem.replace(/[^a-z0-9_]+/g, '-'));
  return trimmed(
    (/^[a-z]/.test(name) ? name : `notebook-${name}`).slice(0, 63)
  );
}

function trimmed(name: string): string {
  return name.replace(/^-+|-+$/g, '');
}

/** Return the form for a notebook, with what was typed the last time. */
export function formFor(
  path: string,
  kernel: string,
  assigned: readonly IAssigned[],
  last: unknown
): IForm {
  const form: IForm = {
    name: nameFor(path),
    kernel,
    packages: '',
    requirements: '',
    python: '',
    parameters: {},
    timeout: '',
    memory: '',
    html: false,
    keep: false
  };
  const kept = (last ?? {}) as { [key: string]: unknown };
  for (const [key, value] of Object.entries(form)) {
    if (key !== 'parameters' && typeof kept[key] === typeof value) {
      Object.assign(form, { [key]: kept[key] });
    }
  }
  const texts = (kept.parameters ?? {}) as { [name: string]: unknown };
  for (const { name } of assigned) {
    if (Object.hasOwn(texts, name) && typeof texts[name] === 'string') {
      form.parameters[name] = texts[name];
    }
  }
  return form;
}

/** Return where packages come from as a form has it; `hasBlock`: whether the notebook has a `# /// script` block. */
export function packagesOf(
  { packages }: Pick<IForm, 'packages'>,
  hasBlock: boolean
): Packages {
  return (
    choicesOf(hasBlock).find(one => one === packages) ?? choicesOf(hasBlock)[0]
  );
}

/** Return where packages may come from, the default first. */
export function choicesOf(hasBlock: boolean): Packages[] {
  return [
    ...(hasBlock ? ['script' as const] : []),
    'kernel',
    'project',
    'list'
  ];
}

/** Return the requirements of a list as it is typed. */
export function requirementsIn(text: string): string[] {
  return text
    .split('\n')
    .map(line => line.replace(/(^|\s)#.*$/, '').trim())
    .filter(Boolean);
}

/** Check what is typed; a parameter's field is called `parameters.NAME`. */
export function wrongIn(
  form: IForm,
  assigned: readonly IAssigned[],
  trans: TranslationBundle
): Wrong {
  const wrong: Wrong = {};
  if (!form.name.trim()) {
    wrong.name = trans.__('A job needs a name.');
  }
  if (form.packages === 'list' && !requirementsIn(form.requirements).length) {
    wrong.packages = trans.__('Write what the job needs, such as numpy.');
  }
  const seconds = Number(form.timeout);
  if (
    form.timeout.trim() &&
    !(Number.isInteger(seconds) && seconds >= 1 && seconds <= 1e9)
  ) {
    wrong.timeout = trans.__(
      'The timeout must be a whole number of seconds, at least 1.'
    );
  }
  for (const one of changed(form, assigned)) {
    const kind = kindOf(one);
    if (valueOf(kind, form.parameters[one.name]) === undefined) {
      wrong[`parameters.${one.name}`] =
        kind === 'number'
          ? trans.__('%1 must be a number.', one.name)
          : trans.__(
              '%1 must be JSON, such as "text", 0.5, true, null or [1, 2].',
              one.name
            );
    }
  }
  return wrong;
}

/** The parameters that are not as the notebook has them: the others keep their types, and what follows from them. */
function changed(form: IForm, assigned: readonly IAssigned[]): IAssigned[] {
  return assigned.filter(one => {
    const text = form.parameters[one.name];
    return text !== undefined && text !== fieldOf(one);
  });
}

/** Return what deploys a notebook as a form has it. */
export function requestOf(
  form: IForm,
  notebook: INotebookContent,
  { folder, name }: IPlace
): Partial<DeployRequest> {
  const memory = form.memory.trim();
  const hasBlock = hasScriptBlock(notebook);
  const packages = packagesOf(form, hasBlock);
  return {
    spec: {
      name: form.name.trim(),
      kind: 'TaskAPI',
      definition: {
        path: name,
        ...(form.kernel && packages === 'kernel'
          ? { kernel: form.kernel }
          : {}), // with other packages goes a kernel of their own
        ...(hasBlock && packages !== 'script'
          ? { script_metadata: false }
          : {}),
        ...(packages === 'project' ? { requirements: 'auto' } : {}),
        ...(packages === 'list'
          ? { requirements: requirementsIn(form.requirements) }
          : {}),
        ...(packages !== 'kernel' && form.python.trim()
          ? { python_version: form.python.trim() }
          : {}),
        ...(form.html ? { outputs: ['html'] } : {}),
        ...(form.keep ? { keep_kernel: KEPT } : {})
      },
      ...(memory ? { compute: { mem: memory } } : {})
    },
    source: sourceOf(notebook),
    cwd: folder,
    notebook: pathOf({ folder, name })
  };
}

/** Return what asks which Python and packages a job will have: only what they depend on, whatever else is typed. */
export function planOf(
  form: Pick<IForm, 'kernel' | 'packages' | 'requirements' | 'python'>,
  path: string,
  notebook: INotebookContent,
  place: IPlace
): Partial<DeployRequest> {
  const { kernel, packages, requirements, python } = form;
  const fresh = formFor(path, kernel, [], { packages, requirements, python });
  return requestOf(fresh, notebook, place);
}

/** Characters of a package's name and version, and how many of them are told. */
const PACKAGE = 60;
const TOLD = 8;

/** Put into words which packages a job will have. */
export function planWords(plan: DeployPlan, trans: TranslationBundle): string {
  const version = plan.python?.version;
  const python = version
    ? trans.__('Python %1', clean(version, 40))
    : clean(plan.kernel ?? plan.python?.path ?? '', 200); // of a kernel of another language
  const list = (all: readonly string[]) =>
    all
      .slice(0, TOLD)
      .map(one => clean(one.replace('==', ' '), PACKAGE))
      .join(', ') +
    (all.length > TOLD ? trans.__(' and %1 more', all.length - TOLD) : '');
  const { packages, requirements } = plan;
  const asked = new Set(requirements.map(distributionOf));
  const isAsked = (one: string) => Number(asked.has(distributionOf(one)));
  const words = packages
    ? trans._n(
        '%1 package: %2',
        '%1 packages: %2',
        packages.length,
        list([...packages].sort((one, other) => isAsked(other) - isAsked(one)))
      )
    : requirements.length
      ? trans.__('resolved when the job starts: %1', list(requirements))
      : trans.__('the packages that are installed there');
  return `${python} · ${words}`;
}

/** Return the name of the package that a requirement is about, as all spellings of it are compared. */
function distributionOf(requirement: string): string {
  const [name] = /^[\w.-]*/.exec(requirement.trim())!;
  return name.toLowerCase().replace(/[-_.]+/g, '-');
}

/** Return what submits it. */
export function submissionOf(
  form: IForm,
  assigned: readonly IAssigned[],
  place: IPlace
): Pick<Submission, 'config' | 'timeout' | 'notebook'> {
  const config: { [name: string]: Value } = {};
  for (const one of changed(form, assigned)) {
    config[one.name] = valueOf(kindOf(one), form.parameters[one.name])!;
  }
  return {
    config,
    timeout: form.timeout.trim() ? Number(form.timeout) : null,
    notebook: pathOf(place)
  };
}

/** Return the field that a sentence of the server is about; empty where it is about none of them. */
export function fieldIn(
  message: string,
  assigned: readonly IAssigned[]
): string {
  const named = assigned.find(({ name }) => message.includes(`'${name}'`));
  const fields: [RegExp, string][] = [
    [/API name|--name\b/, 'name'],
    [/compute\.mem|memory/, 'memory'],
    [/python_version|meets Python 3/, 'python'],
    [/requirement|\bpackages?\b|requires-python|\/\/\/ script/, 'packages'],
    [/definition\.kernel|kernelspec|\bkernel\b/, 'kernel'],
    [/^timeout\b/, 'timeout']
  ];
  return named
    ? `parameters.${named.name}`
    : (fields.find(([words]) => words.test(message))?.[1] ?? '');
}
