(function_declaration name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(class_declaration name: (type_identifier) @name) @definition.class
(abstract_class_declaration name: (type_identifier) @name) @definition.class
(interface_declaration name: (type_identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(type_alias_declaration name: (type_identifier) @name) @definition.type
(internal_module name: (_) @name) @definition.namespace
(method_definition name: (_) @name) @definition.method
(public_field_definition name: (_) @name
  value: [(arrow_function) (function_expression)]) @definition.method
(variable_declarator name: (identifier) @name
  value: [(arrow_function) (function_expression) (generator_function)]) @definition.function
(variable_declarator name: (identifier) @name value: (class)) @definition.class
(assignment_expression left: (member_expression property: (_) @name)
  right: [(arrow_function) (function_expression)]) @definition.function
(pair key: (property_identifier) @name
  value: [(arrow_function) (function_expression)]) @definition.function

(import_statement source: (string) @module) @import
(import_statement "type" source: (string) @module) @import.deferred
(import_statement (import_require_clause source: (string) @module)) @import
(export_statement source: (string) @module) @import
(export_statement "type" source: (string) @module) @import.deferred
((call_expression function: (identifier) @_require arguments: (arguments . (string) @module)) @import
 (#eq? @_require "require"))
(call_expression function: (import) arguments: (arguments . (string) @module)) @import.deferred
(call_expression function: (import) arguments: (arguments . [
  (identifier) (template_string) (binary_expression) (member_expression) (call_expression)
] @module)) @import.dynamic
