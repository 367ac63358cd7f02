import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import typescript from 'typescript-eslint';

export default typescript.config(
  { ignores: ['lib', 'node_modules', '**/*.gen.ts'] },
  js.configs.recommended,
  typescript.configs.recommended,
  hooks.configs['recommended-latest'],
  {
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { args: 'none' }],
      // A token and its interface share a name, as everywhere in JupyterLab.
      '@typescript-eslint/no-redeclare': 'off',
      'no-redeclare': 'off',
      '@typescript-eslint/no-namespace': 'off', // command ids, as in JupyterLab
      curly: ['error', 'all'],
      eqeqeq: 'error'
    }
  }
);
