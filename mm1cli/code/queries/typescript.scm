(class_declaration name: (type_identifier) @name) @definition.class
(abstract_class_declaration name: (type_identifier) @name) @definition.class
(interface_declaration name: (type_identifier) @name) @definition.interface
(enum_declaration name: (identifier) @name) @definition.enum
(type_alias_declaration name: (type_identifier) @name) @definition.type
(internal_module name: (_) @name) @definition.namespace
(public_field_definition name: (_) @name
  value: [(arrow_function) (function_expression)]) @definition.method

(import_statement "type" source: (string) @module) @import.deferred
(import_statement (import_require_clause source: (string) @module)) @import
(export_statement "type" source: (string) @module) @import.deferred
