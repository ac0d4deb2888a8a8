(function_definition) @definition.function
(struct_specifier name: (type_identifier) @name body: (_)) @definition.struct
(union_specifier name: (type_identifier) @name body: (_)) @definition.struct
(enum_specifier name: (type_identifier) @name body: (_)) @definition.enum
(type_definition declarator: (type_identifier) @name) @definition.type
(preproc_function_def name: (identifier) @name) @definition.macro

(preproc_include path: (string_literal) @module) @import.quoted
(preproc_include path: (system_lib_string) @module) @import.angled
(preproc_include path: [(identifier) (call_expression)] @module) @import.dynamic
((translation_unit (function_definition
  declarator: (function_declarator declarator: (identifier) @_main)) @entry.main)
 (#eq? @_main "main"))

(class_specifier name: (_) @name body: (_)) @definition.class
; What `class API Name : Base {` looks like to a grammar that knows no macro API.
(function_definition type: (class_specifier) declarator: (identifier) @name) @definition.class
(function_definition type: (struct_specifier) declarator: (identifier) @name) @definition.struct
(namespace_definition name: (_) @name) @definition.namespace
(alias_declaration name: (type_identifier) @name) @definition.type
(concept_definition name: (identifier) @name) @definition.type
