(function_declaration name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(method_definition name: (_) @name) @definition.method
(variable_declarator name: (identifier) @name
  value: [(arrow_function) (function_expression) (generator_function)]) @definition.function
(variable_declarator name: (identifier) @name value: (class)) @definition.class
(assignment_expression left: (member_expression property: (_) @name)
  right: [(arrow_function) (function_expression)]) @definition.function
(pair key: (property_identifier) @name
  value: [(arrow_function) (function_expression)]) @definition.function

(import_statement source: (string) @module) @import
(export_statement source: (string) @module) @import
((call_expression function: (identifier) @_require arguments: (arguments . (string) @module)) @import
 (#eq? @_require "require"))
(call_expression function: (import) arguments: (arguments . (string) @module)) @import.deferred
(call_expression function: (import) arguments: (arguments . [
  (identifier) (template_string) (binary_expression) (member_expression) (call_expression)
] @module)) @import.dynamic
