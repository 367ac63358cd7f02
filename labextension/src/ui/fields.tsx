import React from 'react';

/** What is wrong with a field, by its name; an empty name is for all of them. */
export type Wrong = { [field: string]: string };

/** What draws a form's fields: each with a label, and a line for what there is to say about it. */
export interface IFields {
  /** The attributes of a field. */
  field: (name: string) => {
    id: string;
    'aria-invalid': boolean;
    'aria-describedby': string;
  };
  /** What there is to say about it: help, and what is wrong. */
  said: (name: string, help?: string | false) => JSX.Element;
  label: (name: string, text: React.ReactNode) => JSX.Element;
}

/**
 * Return what draws the fields of a form.
 *
 * @param id the form's own, in the page.
 * @param errorOf what is wrong with a field.
 */
export function fieldsOf(
  id: string,
  errorOf: (name: string) => string | undefined
): IFields {
  return {
    field: name => ({
      id: `${id}-${name}`,
      'aria-invalid': !!errorOf(name),
      'aria-describedby': `${id}-${name}-said`
    }),
    said: (name, help = '') => {
      const error = errorOf(name);
      return (
        <div id={`${id}-${name}-said`} className="jp-TaskAPI-Run-said">
          {help && (
            <span className="jp-TaskAPI-Note" dir="auto">
              {help}
            </span>
          )}
          {error && <span className="jp-TaskAPI-Error">{error}</span>}
        </div>
      );
    },
    label: (name, text) => <label htmlFor={`${id}-${name}`}>{text}</label>
  };
}
