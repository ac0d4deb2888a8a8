(function_definition name: (identifier) @name) @definition.function
(class_definition name: (identifier) @name) @definition.class

(import_statement name: (dotted_name) @module) @import
(import_statement name: (aliased_import name: (dotted_name) @module)) @import
(import_from_statement module_name: (_) @module) @import.from
(future_import_statement "__future__" @module) @import.from

((if_statement condition: (_) @_condition consequence: (block) @deferred)
 (#match? @_condition "^(typing\\.|t\\.)?TYPE_CHECKING$"))

((module (if_statement condition: (comparison_operator (identifier) @_name (string) @_value)) @entry.main)
 (#eq? @_name "__name__") (#match? @_value "__main__"))
