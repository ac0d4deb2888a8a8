(class_specifier name: (_) @name body: (_)) @definition.class
; What `class API Name : Base {` looks like to a grammar that knows no macro API.
(function_definition type: (class_specifier) declarator: (identifier) @name) @definition.class
(function_definition type: (struct_specifier) declarator: (identifier) @name) @definition.struct
(namespace_definition name: (_) @name) @definition.namespace
(alias_declaration name: (type_identifier) @name) @definition.type
(concept_definition name: (identifier) @name) @definition.type
